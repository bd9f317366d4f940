"""Shards: counting starts at 1, together they are the whole."""

from __future__ import annotations

import pytest

from clipseg_ws.run.shards import WHOLE, parse_shard, shard_of


def test_read():
    assert parse_shard("2/8") == (2, 8) and parse_shard(" 1 / 1 ") == WHOLE


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "-1/2", "1/0", ""])
def test_anything_else_says_where_counting_starts(text):
    with pytest.raises(ValueError, match=r"counting starts at 1\), for example 2/8"):
        parse_shard(text)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_together_they_are_the_whole(count):
    parts = [shard_of(range(10), (number, count)) for number in range(1, count + 1)]
    assert sorted(item for part in parts for item in part) == list(range(10))
    assert parts[0][0] == 0 and len(parts) == count
