"""Narrow numbers: comparisons on the stored scale, and no value that comes out as another one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.refine.affinity import box_mask
from clipseg_ws.run.pseudo import ignore_uncertain
from clipseg_ws.stored import is_sure, limit, to_bytes, to_labels
from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.constraints import constraints
from clipseg_ws.weak.marks import draw_lines

THRESHOLDS = [i / 100 for i in range(101)] + [i / 255 for i in range(256)]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_before_and_after_storing_the_same_pixels_are_sure(kind):
    values = np.concatenate([np.linspace(0, 1, 5001), THRESHOLDS]).astype(kind)
    stored = to_bytes(values)
    for threshold in THRESHOLDS:
        kept = is_sure(values, threshold)
        assert np.array_equal(kept, is_sure(stored, threshold))
        assert np.array_equal(kept, is_sure(torch.from_numpy(values), threshold).numpy())
        assert np.array_equal(kept, is_sure(torch.from_numpy(stored), threshold).numpy())
        assert np.array_equal(kept, is_sure(torch.from_numpy(stored).float() / 255, threshold).numpy())
        assert is_sure(np.array([threshold], kind), threshold).all()


def test_a_confidence_of_the_threshold_is_kept():
    confidence = np.array([[0.95, 242 / 255, 0.9, 0.0, 1.0]], np.float32)
    found = ignore_uncertain(Segmentation(np.ones((1, 5), np.uint8), ("cat",), {}, confidence), 0.95)
    assert found.labels.tolist() == [[1, 1, 255, 255, 1]] and limit(0.95) == 242


@pytest.mark.parametrize("wrong", [1.01, 2.0, -0.1, np.nan, np.inf, 300])
def test_confidence_outside_is_refused(wrong):
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        to_bytes(np.array([0.5, wrong]))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        limit(wrong)
    assert to_bytes(1 + 1e-6) == 255 and to_bytes(-1e-9) == 0


@pytest.mark.parametrize(
    ("values", "match"), [([0, 256], "256"), ([-1, 3], "-1"), ([1.5], "whole"), ([2**40], "8 bits")]
)
def test_labels_that_do_not_fit_are_refused(values, match):
    with pytest.raises(ValueError, match=match):
        to_labels(values)
    assert to_labels(np.array([0, 255], np.int64)).tolist() == [0, 255] and to_labels([True]).tolist() == [1]


def test_lines_of_late_classes_are_refused_not_lost():
    names = [f"c{i}" for i in range(300)]
    corners = [(0, 2), (9, 2)]
    assert (draw_lines([("c253", corners)], names, (5, 10))[2] == 254).all()
    for name in ("c254", "c255", "c299"):
        with pytest.raises(ValueError, match=f"'{name}'.*254 classes"):
            draw_lines([(name, corners)], names, (5, 10))


@pytest.mark.parametrize("value", [-2, -1, 4, 254, 256, 300, 2**31])
def test_scribbles_of_no_class_are_refused(value):
    drawn = np.full((4, 4), 255, np.int64)
    drawn[1] = value
    with pytest.raises(ValueError, match=f"label {value}; allowed: 0 to 3"):
        constraints(WeakLabels(scribbles=drawn), ["a", "b", "c"], (4, 4))
    with pytest.raises(ValueError, match="float"):
        constraints(WeakLabels(scribbles=drawn.astype(np.float32)), ["a", "b", "c"], (4, 4))


def test_wide_scribbles_of_late_classes_are_kept():
    drawn = np.full((4, 4), 255, np.int32)
    drawn[1] = 300
    found = constraints(WeakLabels(scribbles=drawn), [f"c{i}" for i in range(300)], (4, 4))
    assert found.present == (299,) and (found.seed[1] == 300).all() and (found.seed[0] == -1).all()


def test_maps_above_one_do_not_wrap():
    maps = torch.full((1, 1, 3, 3), 0.2)
    maps[..., 1, 1] = 1.01
    assert box_mask(maps)[0, 0].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
