"""Hostile files for every reader: ``python -m tests.fuzz --count 20000``.

Every case is one file (or text) made from a small real one, read in a child process under limits on memory and time.
Counted are: read, refused by an error of the product's own, and what must not be: another error, a crash of the
process, a hang, more than 1 GB. Exit status 1 where one of these occurred.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 20  # of the processor, of one case
WAIT = 240  # seconds on the clock; longer only for something that never comes, a pipe say
PEAK = 1 << 30  # bytes that one case may take
ROOM = 6 << 30  # bytes of address space above what the child starts with
Read = Callable[[Path], Any]


# ---- the child ------------------------------------------------------------------------------------------------------
class Hang(BaseException):
    """A case took too long."""


def _alarm(number: int, frame: object) -> None:
    raise Hang


def peak() -> int:
    """Most bytes of memory since ``forget_peak``; 0 where the system does not say."""
    try:
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    except (OSError, StopIteration):
        return 0


def forget_peak() -> None:
    """Begin a new measurement."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def child(first: int, end: int, seed: int, only: str | None) -> None:
    """Cases ``first`` to ``end``: a line before and a line after each."""
    import fuzz_inputs
    from fuzz_readers import groups
    from own_errors import described, is_own
    from PIL import Image

    warnings.simplefilter("ignore")
    table = groups()
    names = [name for name in table if only is None or name.startswith(only)]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    signal.signal(signal.SIGALRM, _alarm)
    signal.signal(signal.SIGPROF, _alarm)
    with tempfile.TemporaryDirectory(prefix="clipseg_ws_fuzz-") as place:
        for number in range(first, end):
            name = names[number % len(names)]
            file, seeds, read = table[name]
            rnd = random.Random(f"{seed}/{name}/{number}")
            folder = Path(place, str(number))
            (folder / "pictures").mkdir(parents=True)
            for beside in ("pictures/a.png", "b.png"):
                Image.new("RGB", (24, 16)).save(folder / beside)
            (folder / file).write_bytes(case(number, len(names), seeds, rnd, fuzz_inputs.mutated))
            print(json.dumps({"case": number, "group": name}), flush=True)
            outcome, said = tried(read, folder / file, is_own, described)
            print(json.dumps({"case": number, "outcome": outcome, "said": said}), flush=True)
            _emptied(folder)


def case(number: int, groups: int, seeds: list[bytes], rnd: random.Random, change: Callable[..., bytes]) -> bytes:
    """The contents: the seeds as they are first, then changed ones."""
    turn = number // groups
    return seeds[turn] if turn < len(seeds) else change(rnd.choice(seeds), rnd)


def tried(read: Read, path: Path, is_own: Callable[..., bool], described: Callable[..., str]) -> tuple[str, str]:
    """What became of a case."""
    forget_peak()
    before = peak()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(WAIT)
    outcome, said = "read", ""
    try:
        read(path)
    except Hang:
        outcome = "hang"
    except Exception as error:
        outcome = "refused" if is_own(error) else "other error"
        said = "" if outcome == "refused" else described(error)
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    if peak() - before > PEAK:
        outcome, said = "memory", f"{(peak() - before) / 1e9:.1f} GB"
    return outcome, said


def _emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


# ---- the parent -----------------------------------------------------------------------------------------------------
def run(count: int, seed: int = 0, only: str | None = None) -> tuple[dict[str, Counter[str]], list[str]]:
    """(group -> outcomes, what must not be)."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    bad: list[str] = []
    first = 0
    while first < count:
        last: dict[str, Any] = {}
        for line in lines(first, count, seed, only):
            if "group" in line:
                last = line
                continue
            table[last["group"]][line["outcome"]] += 1
            if line["outcome"] not in ("read", "refused"):
                bad.append(f"{last['group']} (case {line['case']}, seed {seed}): {line['outcome']} {line['said']}")
            first, last = line["case"] + 1, {}
        if last:
            table[last["group"]]["crash"] += 1
            bad.append(f"{last['group']} (case {last['case']}, seed {seed}): the process ended or hung")
            first = last["case"] + 1
        elif first < count:
            bad.append(f"the child ended before case {first}")
            break
    return table, bad


def lines(first: int, count: int, seed: int, only: str | None) -> Iterator[dict[str, Any]]:
    """What a child prints; it is ended where it says nothing for a minute and a half."""
    words = [sys.executable, str(Path(__file__)), "--child", str(first), "--count", str(count), "--seed", str(seed)]
    words += [] if only is None else ["--only", only]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONSAFEPATH": "1"})
    waiting: Queue[str] = Queue()

    def collect() -> None:
        for text in process.stdout or ():
            waiting.put(text)
        waiting.put("")

    Thread(target=collect, daemon=True).start()
    patience = 300.0  # loading torch
    try:
        while text := waiting.get(timeout=patience):
            if text.startswith("{"):
                yield json.loads(text)
                patience = WAIT + 60.0
    except Empty:
        pass
    finally:
        process.kill()
        process.wait()


def report(table: dict[str, Counter[str]]) -> Iterator[str]:
    """A table in text."""
    kinds = ("read", "refused", "other error", "crash", "hang", "memory")
    yield f"{'group':<20}" + "".join(f"{kind:>12}" for kind in kinds)
    total: Counter[str] = Counter()
    for group, outcomes in table.items():
        total += outcomes
        yield f"{group:<20}" + "".join(f"{outcomes[kind]:>12}" for kind in kinds)
    yield f"{'all':<20}" + "".join(f"{total[kind]:>12}" for kind in kinds)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="cases in all")
    parser.add_argument("--seed", type=int, default=0, help="other cases")
    parser.add_argument("--only", help="groups that begin so")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child, options.count, options.seed, options.only)
        return 0
    start = time.perf_counter()
    table, bad = run(options.count, options.seed, options.only)
    print("\n".join([*report(table), *bad, f"{time.perf_counter() - start:.0f} s"]))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.path[:] = [str(Path(__file__).parent), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
    sys.exit(main())
