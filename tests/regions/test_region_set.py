"""``RegionSet`` against plain masks: from labels and masks, boxes, overlaps, other sizes, parts; and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipseg_ws.door import InputError
from clipseg_ws.regions.region_set import RegionSet

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def some_masks(seed: int, size: tuple[int, int], count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.random(size) < rng.choice([0.0, 0.2, 0.7, 1.0]) for _ in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), SIZES, st.integers(0, 5))
def test_masks_come_back(seed, size, count):
    masks = some_masks(seed, size, count)
    filled = [m for m in masks if m.any()]
    found = RegionSet.from_masks(masks, size, np.arange(count) / 10)
    assert len(found) == len(filled) and all((a == b).all() for a, b in zip(found.masks(), filled, strict=True))
    assert found.areas.tolist() == [int(m.sum()) for m in filled]
    assert np.allclose(found.scores, [i / 10 for i, m in enumerate(masks) if m.any()])
    for (x0, y0, x1, y1), mask in zip(found.boxes.tolist(), filled, strict=True):
        rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
        assert (x0, y0, x1, y1) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    flipped = found.mirrored()
    assert all((a == b[:, ::-1]).all() for a, b in zip(flipped.masks(), filled, strict=True))
    picked = found.select(range(len(filled))[::-1])
    assert all((a == b).all() for a, b in zip(picked.masks(), filled[::-1], strict=True))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), SIZES, st.integers(0, 5), SIZES)
def test_partition_coverage_and_other_sizes_against_loops(seed, size, count, other):
    masks = [m for m in some_masks(seed, size, count) if m.any()]
    found = RegionSet.from_masks(masks, size)
    order = sorted(range(len(masks)), key=lambda i: (int(masks[i].sum()), i))
    part, share = found.partition(), found.coverage(other)
    for y in range(size[0]):
        for x in range(size[1]):
            assert part[y, x] == next((i for i in order if masks[i][y, x]), -1)
    y, x = np.indices(size)
    cells = y * other[0] // size[0] * other[1] + x * other[1] // size[1]
    for i, mask in enumerate(masks):
        for cell in range(other[0] * other[1]):
            here = cells == cell
            assert share[i, cell] == pytest.approx(mask[here].mean() if here.any() else 0, abs=1e-6)
    resized = [m[_centres(other[0], size[0])][:, _centres(other[1], size[1])] for m in masks]
    expected = [m for m in resized if m.any()]
    got = found.resized(other)
    assert len(got) == len(expected) and all((a == b).all() for a, b in zip(got.masks(), expected, strict=True))


def _centres(new: int, old: int) -> np.ndarray:
    return np.minimum(((2 * np.arange(new) + 1) * old) // (2 * new), old - 1)


def test_a_part_keeps_every_region():
    labels = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [-1, 2, 2, 1]])
    found = RegionSet.from_labels(labels)
    part = found.cropped(-1, 2, 1, 6)  # beyond the picture at the top and at the right
    assert part.size == (3, 5) and len(part) == 3
    wide = np.full((3, 5), -1)
    wide[1:, :3] = labels[:2, 1:]
    for i, mask in enumerate(part.masks()):
        assert (mask == (wide == i)).all()
    assert found.cropped(0, 1, 0, 2).areas.tolist() == [2, 0, 0]


def test_none_one_and_ten_thousand():
    none = RegionSet.from_masks([], (3, 4))
    assert len(none) == 0 and (none.partition() == -1).all() and none.coverage((2, 2)).shape == (0, 4)
    assert none.boxes.shape == (0, 4) and len(none.resized((6, 8))) == 0 and len(none.cropped(0, 1, 0, 1)) == 0
    one = RegionSet.from_labels(np.zeros((3, 4), np.int64))
    assert len(one) == 1 and one.mask(0).all() and len(one.lengths) == 3
    many = RegionSet.from_labels(np.arange(10_000).reshape(100, 100))
    assert len(many) == 10_000 and (many.partition() == np.arange(10_000).reshape(100, 100)).all()
    assert np.allclose(many.coverage((5, 5)).sum(0), 1)


def test_what_does_not_fit_is_said():
    found = RegionSet.from_labels(np.zeros((3, 4), np.int64))
    with pytest.raises(InputError, match="4 x 3 pixels, this one has 5 x 3"):
        found.checked((3, 5))
    with pytest.raises(ValueError, match=r"region 1 is \[2, 2\]; the picture is \[3, 4\]"):
        RegionSet.from_masks([np.ones((2, 2), bool)], (3, 4))
    with pytest.raises(ValueError, match="2 scores for 1 regions"):
        RegionSet.from_masks([np.ones((3, 4), bool)], (3, 4), [1, 2])
    with pytest.raises(ValueError, match="whole numbers"):
        RegionSet.from_labels(np.zeros((3, 4)))
