"""Machines, hours and storage for very many pictures, from measured rates: ``python -m clipseg_ws.eval.bench.scale``.

Nothing is measured here but the size of shards that a run has written; the rate is the line "pictures a second" that
``predict --shards`` prints at its end.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from clipseg_ws.output.shards import about_of, list_shards
from clipseg_ws.pictures.objects import is_object_store, object_state

PICTURES = (10**6, 10**8, 10**9)
MACHINES = (1, 8, 64, 512)


@dataclass(frozen=True)
class Assumed:
    """What the table is computed from.

    Attributes:
        rate: pictures a second of one machine (or GPU), measured. picture_bytes, row_bytes: of a picture's file and of
            its row in a shard. size: pictures a shard. start: seconds until a machine has its model, once a wave.
        wave: shards between two starts (``run.sharded.WAVE``). busy: share of the time that machines work, the rest
            being the slowest shard, restarts and losses.
    """

    rate: float
    picture_bytes: float
    row_bytes: float
    size: int = 1000
    start: float = 20.0
    wave: int = 512
    busy: float = 0.9


def hours(pictures: int, machines: int, assumed: Assumed) -> float:
    """Hours until ``machines`` have done so many pictures.

    Example:
        >>> round(hours(3600, 1, Assumed(1.0, 0, 0, start=0, busy=1.0)), 3)
        1.0
    """
    shards = -(-pictures // assumed.size)
    rounds = -(-shards // machines)  # a shard is never divided
    work = rounds * min(assumed.size, pictures) / assumed.rate / assumed.busy
    return (work + -(-shards // assumed.wave) * assumed.start) / 3600


def table(assumed: Assumed, pictures: Sequence[int] = PICTURES, machines: Sequence[int] = MACHINES) -> pd.DataFrame:
    """A row a number of pictures: shards, terabytes in and out, network rate, hours by machines."""
    rows = []
    for count in pictures:
        row: dict[str, object] = {
            "pictures": f"{count:.0e}".replace("e+0", "e"),
            "shards": -(-count // assumed.size),
            "read, TB": round(count * assumed.picture_bytes / 1e12, 2),
            "written, TB": round(count * assumed.row_bytes / 1e12, 3),
        }
        row |= {f"hours, {n}": f"{hours(count, n, assumed):.3g}" for n in machines}
        rows.append(row)
    return pd.DataFrame(rows)


def measured_row(place: str) -> tuple[float, int]:
    """(bytes a row, rows) of the shards that a run has written. Raises as ``list_shards`` and ``about_of``."""
    total, rows = 0, 0
    for where in list_shards(place):
        total += _bytes(where)
        rows += int(about_of(where)["rows"])
    return total / max(rows, 1), rows


def _bytes(where: str) -> int:
    from pathlib import Path

    return (object_state(where) or (0, 0))[0] if is_object_store(where) else Path(where).stat().st_size


def lines(assumed: Assumed) -> Iterator[str]:
    """The assumptions, then the table, as Markdown."""
    yield (
        f"{assumed.rate:g} pictures a second a machine (measured by the caller); {assumed.picture_bytes / 1e3:g} kB a "
        f"picture, {assumed.row_bytes:.0f} bytes a row; {assumed.size} pictures a shard; machines work "
        f"{assumed.busy:.0%} of the time and need {assumed.start:g} s to start, once every {assumed.wave} shards."
    )
    yield ""
    found = table(assumed)
    yield f"| {' | '.join(found.columns)} |"
    yield f"|{'---|' * len(found.columns)}"
    for row in found.itertuples(index=False):
        yield f"| {' | '.join(map(str, row))} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints ``lines``."""
    parser = argparse.ArgumentParser(prog="python -m clipseg_ws.eval.bench.scale", description=__doc__)
    parser.add_argument("--rate", type=float, required=True, help="pictures a second of one machine or GPU")
    parser.add_argument("--shards", help="shards of a run, whose bytes a row are taken")
    parser.add_argument("--row-bytes", type=float, default=1500.0, help="instead of --shards")
    parser.add_argument("--picture-bytes", type=float, default=100e3)
    parser.add_argument("--size", type=int, default=1000, help="pictures a shard")
    given = parser.parse_args(arguments)
    if given.rate <= 0 or given.size < 1:
        parser.error(f"--rate {given.rate} and --size {given.size} must be above 0")
    row_bytes = given.row_bytes if given.shards is None else measured_row(given.shards)[0]
    for line in lines(Assumed(given.rate, given.picture_bytes, row_bytes, given.size)):
        print(line)


if __name__ == "__main__":
    main()
