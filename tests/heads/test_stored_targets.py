"""Targets of heads keep to 8 bits: nothing wraps around, and what is sure is sure as it is stored."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipseg_ws.heads.cotrain import agreement
from clipseg_ws.heads.data import ArrayData
from clipseg_ws.stored import is_sure, to_bytes

FEATURES = torch.zeros(1, 1, 2, 2, 3)


@pytest.mark.parametrize("wrong", [256, -1, 300])
def test_a_label_beyond_8_bits_is_refused(wrong: int) -> None:
    labels = np.zeros((1, 4, 6), np.int64)
    labels[0, 0, 0] = wrong
    with pytest.raises(ValueError, match=str(wrong)):
        ArrayData(FEATURES, labels)
    with pytest.raises(ValueError, match="whole numbers"):
        ArrayData(FEATURES, labels.astype(np.float32))


@pytest.mark.parametrize("wrong", [1.01, -0.1, float("nan")])
def test_a_confidence_outside_its_range_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        ArrayData(FEATURES, np.zeros((1, 4, 6), np.int64), np.full((1, 4, 6), wrong))


def test_labels_and_confidence_are_kept() -> None:
    labels = np.array([[[0, 1, 255], [3, 254, 2]]])
    data = ArrayData(FEATURES, torch.from_numpy(labels), torch.full((1, 2, 3), 0.95))
    kept, sure = data.target(0)
    assert np.array_equal(kept, labels[0]) and (sure == 242).all()


@pytest.mark.parametrize("threshold", [0.8, 0.95, 0.5])
def test_teachers_agree_on_the_stored_scale(threshold: float) -> None:
    """A mean probability that is stored as the threshold's own number counts, on both sides alike."""
    least = int(to_bytes(threshold))
    for level in (least - 0.6, least - 0.4, least + 0.4):
        p = level / 255
        scores = torch.tensor([p, 1 - p]).view(1, 2, 1, 1).float()
        labels, best = agreement([scores, scores], threshold)
        wins = 0 if p >= 0.5 else 1
        expected = is_sure(best, threshold)
        assert bool(expected[0, 0, 0]) == (round(max(p, 1 - p) * 255) >= least)
        assert int(labels[0, 0, 0]) == (wins if bool(expected[0, 0, 0]) else 255)
