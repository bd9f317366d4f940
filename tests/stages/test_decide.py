"""The background rules, the arg-max with its ties, and the smallest area."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipseg_ws.stages.labels import label, label_words, spread_labels, with_background


def test_power_constant_and_prompts():
    maps = torch.tensor([[[[0.2, 0.9, 0.0]], [[0.6, 0.1, 0.0]]], [[[0.0, 0.5, 1.0]], [[0.0, 0.0, 0.0]]]])
    power = with_background(maps, "power", alpha=2)
    assert torch.allclose(power[:, 0], torch.tensor([[[0.16, 0.01, 1.0]], [[1.0, 0.25, 0.0]]]), atol=1e-6)
    assert torch.equal(power[:, 1:], maps)
    assert (with_background(maps, "constant", threshold=0.3)[:, 0] == 0.3).all()
    background = torch.rand(2, 1, 3)
    assert torch.equal(with_background(maps, "prompts", background=background)[:, 0], background)


def test_nothing_asked_for_is_background():
    labels, confidence = label(with_background(torch.zeros(2, 0, 3, 4)))
    assert (labels == 0).all() and (confidence == 1).all()


def test_ties_go_to_the_first():
    labels, confidence = label(torch.full((1, 3, 2, 2), 0.5))
    assert (labels == 0).all() and torch.allclose(confidence, torch.full((1, 2, 2), 1 / 3))


def test_small_class_loses_to_the_next_best():
    scores = torch.zeros(1, 3, 4, 5)
    scores[0, 0] = 0.3
    scores[0, 1] = 0.5
    scores[0, 2, 0, 0] = 0.9  # one pixel of twenty
    kept, _ = label(scores, min_area=0.05)
    assert kept[0, 0, 0] == 2
    dropped, confidence = label(scores, min_area=0.06)
    assert (dropped == 1).all() and float(confidence[0, 0, 0]) == pytest.approx(0.5 / 0.8)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 4), st.floats(0, 0.5))
def test_every_kept_class_reaches_the_area(seed, count, min_area):
    maps = torch.rand(2, count, 3, 7, generator=torch.Generator().manual_seed(seed))
    labels, confidence = label(with_background(maps), min_area=min_area)
    assert labels.min() >= 0 and labels.max() <= count
    assert confidence.min() >= 0 and confidence.max() <= 1
    alone, _ = label(with_background(maps[1:]), min_area=min_area)
    assert torch.equal(labels[1:], alone)


def test_words_threshold_and_area():
    probabilities = torch.tensor([0.0, 0.6, 0.3])[None, :, None, None].repeat(1, 1, 2, 5).clone()
    probabilities[0, :, 0, 0] = torch.tensor([0.0, 0.05, 0.08])
    probabilities[0, :, 1, 1] = torch.tensor([0.0, 0.2, 0.7])
    labels, confidence = label_words(probabilities, 0.1)
    assert labels[0, 0, 0] == 0 and labels[0, 1, 1] == 2 and labels[0, 0, 1] == 1
    assert float(confidence[0, 0, 0]) == pytest.approx(0.92) and float(confidence[0, 1, 1]) == pytest.approx(0.7)
    dropped, _ = label_words(probabilities, 0.1, area_threshold=0.3)
    assert dropped[0, 1, 1] == 1


def test_spread_labels():
    labels = torch.tensor([[[0, 1], [2, 2]], [[0, 1], [1, 0]]])
    found = spread_labels(labels, torch.tensor([[4, 17], [9, -1]]))
    assert found.tolist() == [[[0, 5], [18, 18]], [[0, 10], [10, 0]]]
    assert not spread_labels(torch.zeros(1, 2, 2, dtype=torch.int64), torch.zeros(1, 0, dtype=torch.int64)).any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"rule": "max"}, "power, constant, prompts"),
        ({"alpha": 0}, "positive exponent"),
        ({"rule": "constant", "threshold": 1.5}, r"\[0, 1\]"),
        ({"rule": "prompts"}, "needs background"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises(ValueError, match=message):
        with_background(torch.zeros(1, 1, 2, 2), **kwargs)
    with pytest.raises(ValueError, match="min_area"):
        label(torch.zeros(1, 1, 2, 2), min_area=1)
