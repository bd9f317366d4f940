"""Many things in turn: loaded ahead by threads, those of one kind together. No torch."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

WAITING = 4  # batches that may wait for more of their kind


def load_ahead(
    items: Iterable[T], load: Callable[[T], R], fail: Callable[[T, Exception], None] | None = None, *,
    workers: int | None = None, ahead: int = 32,
) -> Iterator[tuple[T, R]]:  # fmt: skip
    """Items in order with what ``load`` makes of them, by threads that stay at most ``ahead`` items in front.

    Args:
        workers: threads; None: one a processor, at most 8.
        fail: gets an item whose ``load`` raised, whatever it raised, which is then left out; None: raised.
    """
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 2)) as pool:
        waiting: deque[tuple[T, Future[R]]] = deque()
        upcoming = iter(items)
        while True:
            while len(waiting) < ahead:
                try:
                    item = next(upcoming)
                except StopIteration:
                    break
                waiting.append((item, pool.submit(load, item)))
            if not waiting:
                return
            item, future = waiting.popleft()
            try:
                loaded = future.result()
            except Exception as error:
                if fail is None:
                    raise
                fail(item, error)
            else:
                yield item, loaded


def batches_of_a_kind(
    pairs: Iterable[tuple[T, R]], kind: Callable[[R], Hashable], size: int
) -> Iterator[list[tuple[T, R]]]:
    """Pairs whose second halves are of one kind together, ``size`` a batch; where ``WAITING`` batches' worth of pairs
    wait, the fullest goes as it is."""
    groups: dict[Hashable, list[tuple[T, R]]] = {}
    for item, loaded in pairs:
        which = kind(loaded)
        groups.setdefault(which, []).append((item, loaded))
        if len(groups[which]) == size:
            yield groups.pop(which)
        elif sum(map(len, groups.values())) >= WAITING * size:
            yield groups.pop(max(groups, key=lambda key: len(groups[key])))
    yield from groups.values()


def grouped(kinds: Sequence[Hashable], size: int | None = None) -> list[list[int]]:
    """Numbers of equal entries together, in order of first occurrence, at most ``size`` (None: any number) a group."""
    groups: dict[Hashable, list[int]] = {}
    for number, kind in enumerate(kinds):
        groups.setdefault(kind, []).append(number)
    step = size or max(1, len(kinds))
    return [part[s : s + step] for part in groups.values() for s in range(0, len(part), step)]
