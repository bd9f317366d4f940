"""Batches that shrink where the device runs out of memory, instead of failing."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch

from clipseg_ws.pictures.loading import grouped

T = TypeVar("T")


class Batching:
    """Cuts work into batches of at most ``size``; after running out of memory once, smaller ones are kept to."""

    def __init__(self, size: int) -> None:
        self.size = size

    def run(self, members: Sequence[T], do: Callable[[Sequence[T]], None]) -> None:
        """Call ``do`` with batch after batch; one that needs too much memory is halved and done again.

        ``do`` must leave nothing behind where it raises. Raises what it raises where one member alone is too large,
        and every other error at once.
        """
        start = 0
        while start < len(members):
            batch = members[start : start + self.size]
            try:
                do(batch)
            except Exception as error:
                if len(batch) == 1 or not out_of_memory(error):
                    raise
                self.size = (len(batch) + 1) // 2
            else:
                start += len(batch)
                continue
            release()  # not inside the except: the error's trace holds the batch's tensors

    def run_grouped(self, keys: Sequence[Hashable], do: Callable[[Sequence[int]], Sequence[T]]) -> list[T]:
        """Answers in the order of ``keys``; only members of equal keys share a batch.

        ``do``: numbers of a batch's members -> an answer for each; otherwise as for ``run``.
        """
        answers: dict[int, T] = {}

        def answer(batch: Sequence[int]) -> None:
            answers.update(zip(batch, do(batch), strict=True))

        for members in grouped(keys):
            self.run(members, answer)
        return [answers[index] for index in range(len(keys))]


def out_of_memory(error: BaseException) -> bool:
    """Whether the device, or the machine, had no memory left."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # torch's CPU allocator


def release() -> None:
    """Give cached memory back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
