"""Shards: a data set shared by several processes, each with every n-th picture. Counting starts at 1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")
WHOLE = (1, 1)


def parse_shard(text: str) -> tuple[int, int]:
    """ "2/8" -> (2, 8). Raises ValueError for anything else, 0/8 included."""
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    number, of = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= of:
        raise ValueError(
            f"shard {text!r} is none; write i/n with i from 1 to n (counting starts at 1), for example 2/8"
        )
    return number, of


def shard_of(items: Sequence[Item], shard: tuple[int, int]) -> Sequence[Item]:
    """Items i, i + n, ... of the shard (i, n), i from 1."""
    number, of = shard
    return items[number - 1 :: of]
