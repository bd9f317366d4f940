"""What a batch of pictures costs on a pretend card, as a table: ``python tests/pretend_count.py [BATCH]``."""

from __future__ import annotations

import sys
from collections import Counter

from pretend import pretend_card
from test_pretend_card import LIMITS, SIZES, ask

from clipseg_ws import Segmenter

ROOMS = ("backbones", "activations", "refine", "stages")


def main(top: int) -> None:
    """Rows as in ``eval/PERFORMANCE.md``: a batch of ``top`` pictures against one of half as many."""
    print("| asked | method, refiner | further picture: operators, launches, waits | batch: waits | launches by room |")
    print("|---|---|---|---|---|")
    with pretend_card() as card:
        base = Segmenter("nano", device="cuda", dtype="float32", **SIZES)
        for kind, method, refiner in LIMITS:
            answer = ask(base.variant(method, refine=refiner, **SIZES), kind)
            answer(top)
            seen = []
            for count in (top // 2, top):
                card.forget()
                answer(count)
                seen.append([counter.total() for counter in (card.operators, card.launches, card.waits)])
            further = ", ".join(f"{(b - a) / (top - top // 2):.1f}" for a, b in zip(*seen, strict=True))
            rooms = Counter[str]()
            for place, count in card.launches.items():
                rooms[place.partition("/")[0]] += count
            listed = ", ".join(f"{room} {rooms[room]}" for room in ROOMS)
            print(f"| {kind} | {method}, {refiner} | {further} | {seen[1][2]} | {listed} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 16)
