"""Peaks and their basins against a slow definition; masks cut into instances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from clipseg_ws.activations.peaks import box_instances, peak_basins, peak_instances


def slow_peaks(scores: np.ndarray, prominence: float) -> set[tuple[int, int]]:
    """Every cell whose height above the best pass to a higher cell reaches the prominence (values all differ)."""
    kept = set()
    for y, x in np.ndindex(scores.shape):
        height = scores[y, x]
        passes = [0.0] if height == scores.max() else []
        for level in np.unique(scores[scores <= height]):
            regions, _ = ndimage.label(scores >= level, structure=np.ones((3, 3)))
            if (scores[regions == regions[y, x]] > height).any():
                passes.append(level)
        if height - max(passes) >= prominence * scores.max():
            kept.add((y, x))
    return kept


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 7), st.sampled_from([0.1, 0.3, 0.6]))
def test_peaks_equal_their_definition(seed, height, width, prominence):
    scores = np.random.default_rng(seed).permutation(height * width).reshape(height, width) + 1.0
    peaks, basins = peak_basins(scores, prominence=prominence, floor=0.0)
    assert {tuple(p) for p in peaks.tolist()} == slow_peaks(scores, prominence)
    for number, (y, x) in enumerate(peaks.tolist(), start=1):
        assert basins[y, x] == number
        _, count = ndimage.label(basins == number, structure=np.ones((3, 3)))
        assert count == 1
    assert (basins > 0).all()


def two_hills() -> np.ndarray:
    y, x = np.mgrid[0:10, 0:20]
    return np.maximum(np.exp(-((x - 4) ** 2 + (y - 5) ** 2) / 8), 0.8 * np.exp(-((x - 14) ** 2 + (y - 4) ** 2) / 8))


def test_a_mask_of_two_hills_is_two_instances():
    scores = two_hills()
    mask = np.zeros((40, 80), bool)
    mask[8:32, 4:76] = True
    parts = peak_instances(mask, scores)
    assert set(np.unique(parts)) == {0, 1, 2} and ((parts > 0) == mask).all()
    assert (parts[8:32, 4:28] == parts[20, 16]).all() and (parts[8:32, 48:76] == parts[16, 56]).all()
    assert parts[20, 16] != parts[16, 56]
    one = peak_instances(mask, scores, prominence=0.9)
    assert one.max() == 1 and ((one > 0) == mask).all()


def test_regions_apart_are_instances_and_specks_are_not():
    mask = np.zeros((40, 80), bool)
    mask[4:20, 4:20], mask[4:20, 50:70], mask[30, 6] = True, True, True
    parts = peak_instances(mask, np.ones((5, 10)))
    assert parts.max() == 2 and parts[30, 6] == parts[10, 10] != parts[10, 60]
    assert ((parts > 0) == mask).all()
    speck = np.zeros((40, 80), bool)
    speck[3, 3] = True
    assert peak_instances(speck, np.ones((5, 10)))[3, 3] == 1  # all there is
    assert not peak_instances(np.zeros((4, 5), bool), np.zeros((2, 2))).any()


def test_boxes_cut_a_mask():
    mask = np.zeros((10, 20), bool)
    mask[2:9, 1:18] = True
    parts = box_instances(mask, [(0, 0, 20, 10), (3, 3, 6, 6)])
    assert parts.max() == 2 and (parts[3:6, 3:6] == parts[4, 4]).all() and (parts == parts[4, 4]).sum() == 9
    assert ((parts > 0) == mask).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 12), st.integers(1, 4))
def test_boxes_cut_a_mask_pixel_by_pixel(seed, height, width, count):
    rng = np.random.default_rng(seed)
    mask, boxes = rng.random((height, width)) < 0.7, []
    for _ in range(count):
        (x0, x1), (y0, y1) = (sorted(rng.choice(side + 1, 2, replace=False)) for side in (width, height))
        boxes.append((int(x0), int(y0), int(x1), int(y1)))
    area = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]
    if len(set(area)) < count:
        return  # of boxes of one size either is right
    owner = {}
    for y, x in np.argwhere(mask):
        held = [i for i, (x0, y0, x1, y1) in enumerate(boxes) if x0 <= x < x1 and y0 <= y < y1]
        if held:
            owner[y, x] = min(held, key=lambda i: area[i])
    got = box_instances(mask, boxes)
    assert ((got > 0) == mask).all()
    if not owner:
        assert (got == mask).all()
        return
    number = {i: got[place] for place, i in owner.items()}
    assert len(set(number.values())) == len(number) == got.max()
    assert all(got[place] == number[i] for place, i in owner.items())
    firsts = [int(np.flatnonzero(got.ravel() == n)[0]) for n in range(1, got.max() + 1)]
    assert firsts == sorted(firsts)
    for y, x in np.argwhere(mask):
        if (y, x) not in owner:
            far = {place: (place[0] - y) ** 2 + (place[1] - x) ** 2 for place in owner}
            assert got[y, x] in {number[owner[place]] for place in far if far[place] == min(far.values())}


def test_wrong_shares():
    with pytest.raises(ValueError, match="prominence=1"):
        peak_basins(np.ones((2, 2)), prominence=1)
