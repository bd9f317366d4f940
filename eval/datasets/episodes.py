"""Frozen few-shot episodes: CSV lists (plain or .gz) that are read, written and, for other data, drawn.

Columns ``fold,shot,index,class_id,query,support_1…support_K`` (fold empty where there is none). Random streams differ
between code bases and library versions, so results are only comparable on the same list; lists drawn here depend on
nothing but the arguments (SHA-256, no random generator).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clipseg_ws.door import reading
from clipseg_ws.door.tables import csv_rows, read_packed_text
from clipseg_ws.files import atomic_write

_FIXED = ("fold", "shot", "index", "class_id", "query")


@dataclass(frozen=True)
class Episode:
    """One query and its supports, as names in the data set. ``fold`` is None where the data have none."""

    index: int
    class_id: int
    query: str
    supports: tuple[str, ...]
    fold: int | None = None


def read_episodes(path: str | Path) -> tuple[Episode, ...]:
    """Episodes of a list. Raises ValueError for other columns, an empty list, or a mix of folds."""
    with reading(path, "a list of episodes"):
        return _episodes([row for _, row in csv_rows(read_packed_text(path), strict=False)], path)


def _episodes(rows: Sequence[Sequence[str]], path: str | Path) -> tuple[Episode, ...]:
    shots = len(rows[0]) - len(_FIXED) if rows else 0
    if shots < 1 or tuple(rows[0]) != (*_FIXED, *(f"support_{i + 1}" for i in range(shots))):
        raise ValueError(f"{str(path)!r} has columns {rows[:1]}; expected {','.join(_FIXED)},support_1…support_K")
    episodes = []
    for number, row in enumerate(rows[1:], 2):
        numbers = [row[i] for i in (1, 2, 3)] + ([row[0]] if row[0] else []) if len(row) == len(rows[0]) else [""]
        if not all(re.fullmatch("[0-9]{1,12}", number) for number in numbers) or int(row[1]) != shots:
            raise ValueError(f"{str(path)!r} line {number}: {row} does not fit {shots} shots")
        episodes.append(Episode(int(row[2]), int(row[3]), row[4], tuple(row[5:]), int(row[0]) if row[0] else None))
    if not episodes or len({episode.fold for episode in episodes}) != 1:
        raise ValueError(f"{str(path)!r} holds {len(episodes)} episodes of several folds; one fold a list is expected")
    return tuple(episodes)


def write_episodes(path: str | Path, episodes: Sequence[Episode]) -> None:
    """Write a list that `read_episodes` reads; ``.gz`` by suffix, byte for byte the same every time."""
    shots = len(episodes[0].supports)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_FIXED, *(f"support_{i + 1}" for i in range(shots))])
    for e in episodes:
        writer.writerow(["" if e.fold is None else e.fold, shots, e.index, e.class_id, e.query, *e.supports])
    data = text.getvalue().encode("utf-8")
    with atomic_write(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)


def _pick(count: int, *key: object) -> int:
    """A number in 0…count-1 that depends on ``key`` only."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


def _supports(names: Sequence[str], shots: int, *key: object) -> tuple[str, ...]:
    """Drawn without repetition where there are enough; depends on the arguments only."""
    drawn: list[str] = []
    pool = list(names)
    for shot in range(shots):
        pool = pool or list(names)
        drawn.append(pool.pop(_pick(len(pool), *key, shot)))
    return tuple(drawn)


def _checked(members: Mapping[int, Sequence[str]], count: int, shots: int) -> dict[int, list[str]]:
    """Every class that has pictures, each picture once. Raises ValueError as ``draw_episodes``."""
    found = {c: sorted(set(names)) for c, names in sorted(members.items()) if names}
    poor = [c for c, names in found.items() if len(names) < 2]
    if poor or not found or shots < 1 or count < 1:
        raise ValueError(
            f"classes {poor} have fewer than two pictures, {len(found)} classes, {shots} shots, {count} episodes; "
            f"every class needs a query and another picture as its support"
        )
    return found


def draw_episodes(
    members: Mapping[int, Sequence[str]], count: int, shots: int, *, seed: int = 0, fold: int | None = None
) -> tuple[Episode, ...]:
    """``count`` episodes over the pictures of each class (class id -> names).

    The (picture, class) pairs are gone through in order of the pictures and again from the start, as HSNet does, so
    that every pair is a query about equally often; supports are drawn among the other pictures of the class, without
    repetition where there are enough. Raises ValueError if a class has fewer than two pictures.
    """
    members = _checked(members, count, shots)
    pairs = sorted((name, c) for c, names in members.items() for name in names)
    episodes = []
    for index in range(count):
        query, class_id = pairs[index % len(pairs)]
        others = [name for name in members[class_id] if name != query]
        episodes.append(Episode(index, class_id, query, _supports(others, shots, seed, fold, index), fold))
    return tuple(episodes)


def draw_in_turn(
    members: Mapping[int, Sequence[str]], count: int, shots: int, *, seed: int = 0, fold: int | None = None
) -> tuple[Episode, ...]:
    """As ``draw_episodes``, for few episodes of much data: the classes take turns, the query is drawn too.

    Every seed gives other queries. Raises ValueError as ``draw_episodes``.
    """
    members = _checked(members, count, shots)
    classes, episodes = list(members), []
    for index in range(count):
        class_id = classes[index % len(classes)]
        query = members[class_id][_pick(len(members[class_id]), seed, fold, index, "query")]
        others = [name for name in members[class_id] if name != query]
        episodes.append(Episode(index, class_id, query, _supports(others, shots, seed, fold, index), fold))
    return tuple(episodes)
