"""What a bank of examples adds to a query: the same call by names with and without it, in turn, medians."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from clipseg_ws import Segmenter, Support
from clipseg_ws.backbones.device import choose_device
from clipseg_ws.eval.bench.model import PICTURE, SHORT_SIDE, in_turn, picture, random_backbone, words

GOAL = 1.15  # with a 5-shot, 3-way bank / without


@dataclass(frozen=True)
class FewShotTiming:
    """One row: median time of a query, its ratio to the call by names alone, median processor time and its ratio."""

    model: str
    dtype: str
    what: str
    median_ms: float
    ratio: float
    goal: float | None
    processor_ms: float
    processor_ratio: float


def bench_fewshot(
    architecture: str = "ViT-B-16-quickgelu",
    *,
    device: str = "auto",
    dtype: str = "float32",
    ways: int = 3,
    shots: int = 5,
    rounds: int = 7,
    short_side: int = SHORT_SIDE,
) -> list[FewShotTiming]:
    """Time a query of ``ways`` present classes by names, by names and examples, and by examples alone.

    The bank of ``ways`` x ``shots`` supports is encoded before; picture refinement, decision and everything else of the
    default method are part of every call. Raises ValueError for an unknown architecture or device.
    """
    chosen = choose_device(device)
    backbone = random_backbone(architecture, dtype, chosen, short_side)
    segmenter = Segmenter(backbone=backbone, short_side=short_side)
    vocabulary = words(ways)
    tags = list(vocabulary.names)
    bank = segmenter.bank([_example(name, i) for name in tags for i in range(shots)])
    query = picture(1000)
    jobs: dict[str, Callable[[], Any]] = {
        "names": partial(segmenter, query, classes=vocabulary, tags=tags),
        f"names and a {shots}-shot, {ways}-way bank": partial(
            segmenter, query, classes=vocabulary, tags=tags, supports=bank
        ),
        f"a {shots}-shot, {ways}-way bank": partial(segmenter, query, tags=tags, supports=bank),
    }
    measured = in_turn(jobs, rounds, chosen)
    clock, work = ({k: statistics.median(v[i] for v in values) for k, values in measured.items()} for i in (0, 1))
    return [
        FewShotTiming(
            architecture, dtype, what, round(1000 * clock[what], 1), round(clock[what] / clock["names"], 3),
            None if what == "names" else GOAL, round(1000 * work[what], 1), round(work[what] / work["names"], 3),
        )
        for what in jobs
    ]  # fmt: skip


def _example(name: str, seed: int) -> Support:
    """A random picture with a box as its object."""
    mask = np.zeros(PICTURE, np.uint8)
    mask[100:260, 150:330] = 1
    return Support(picture(sum(map(ord, name)) * 100 + seed), mask, name)
