"""Loading ahead, batches of a kind, grouping."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipseg_ws.pictures.loading import WAITING, batches_of_a_kind, grouped, load_ahead


def test_order_failures_and_how_far_ahead():
    started, most = [], 0
    lock = threading.Lock()

    def load(number):
        with lock:
            started.append(number)
        time.sleep(0.002 * (number % 3))
        if number == 3:
            raise ValueError("three")
        return number * number

    failed = []
    got = []
    for pair in load_ahead(range(20), load, lambda item, error: failed.append((item, str(error))), workers=3, ahead=5):
        most = max(most, len(started) - len(got) - len(failed))
        got.append(pair)
    assert got == [(i, i * i) for i in range(20) if i != 3] and failed == [(3, "three")]
    assert most <= 5
    with pytest.raises(ValueError, match="three"):
        list(load_ahead(range(5), load))


def test_whatever_is_raised_costs_one_item():
    def load(number):
        if number == 1:
            raise MemoryError("too much")
        return number

    failed = []
    found = list(load_ahead([0, 1, 2], load, lambda item, error: failed.append((item, type(error)))))
    assert found == [(0, 0), (2, 2)] and failed == [(1, MemoryError)]
    with pytest.raises(MemoryError):
        list(load_ahead([1], load))


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(1, 4))
def test_batches_hold_one_kind_and_everything_once(kinds, size):
    batches = list(batches_of_a_kind(enumerate(kinds), lambda kind: kind, size))
    assert sorted(number for batch in batches for number, _ in batch) == list(range(len(kinds)))
    for batch in batches:
        assert len(batch) <= size and len({kind for _, kind in batch}) == 1
        assert [number for number, _ in batch] == sorted(number for number, _ in batch)


def test_few_wait():
    """Of many kinds no more than ``WAITING`` batches' worth of items is held back."""
    taken = 0

    def items():
        nonlocal taken
        for i in range(100):
            taken += 1
            yield i, i

    given_out = 0
    for batch in batches_of_a_kind(items(), lambda kind: kind, 2):
        given_out += len(batch)
        assert taken - given_out <= WAITING * 2


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), max_size=30))
def test_grouped(kinds):
    groups = grouped(kinds)
    assert sorted(i for group in groups for i in group) == list(range(len(kinds)))
    assert [kinds[group[0]] for group in groups] == list(dict.fromkeys(kinds))
    assert all(kinds[i] == kinds[group[0]] for group in groups for i in group)
