"""Prototypes against loops over pixels, and their degenerate cases."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from clipseg_ws.activations.prototypes import (
    background_prototype,
    class_prototypes,
    masked_average_pooling,
    match,
    pooling_weights,
    vote,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 31), st.integers(1, 31), st.integers(0, 99))
def test_pooling_equals_enlarging(h, w, height, width, seed):
    """The oracle enlarges the features, as PANet does; also where the mask is smaller than the features."""
    features = noise(2, 3, h, w, seed=seed)
    masks = (noise(2, height, width, seed=seed + 1) > 0).float()
    large = F.interpolate(features, size=(height, width), mode="bilinear", align_corners=False)
    want = (large * masks[:, None]).sum((2, 3)) / (masks.sum((1, 2)) + 1e-5)[:, None]
    assert torch.allclose(masked_average_pooling(features, masks), want, atol=1e-4)
    assert torch.allclose(pooling_weights(masks, (h, w)).sum((1, 2)), masks.sum((1, 2)), rtol=1e-4, atol=1e-4)


def test_pooling_of_an_empty_mask_is_zero_and_of_bools_works():
    features = noise(2, 3, 4, 5)
    masks = torch.zeros(2, 16, 20, dtype=torch.bool)
    masks[1] = True
    pooled = masked_average_pooling(features, masks)
    assert torch.equal(pooled[0], torch.zeros(3))
    assert torch.allclose(pooled[1], features[1].mean((1, 2)), atol=1e-5)


def test_pooling_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\[S, D, h, w\] and \[S, H, W\]"):
        masked_average_pooling(noise(2, 3, 4, 5), torch.ones(3, 4, 5))


def test_class_prototypes_by_hand():
    vectors = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
    ways = torch.tensor([0, 0, 2])
    assert torch.equal(class_prototypes(vectors, ways, 3), torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 5.0]]))
    weighted = class_prototypes(vectors, ways, 3, torch.tensor([[1.0, 3.0, 0.0], [0.0, 0.0, 1.0]]))
    assert torch.allclose(weighted[0], torch.tensor([[2.5, 0.0], [0.0, 0.0], [0.0, 5.0]]))  # class 2: all 0, plain mean
    assert torch.allclose(weighted[1], torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 5.0]]))


def test_background_is_the_mean_over_ways_of_the_mean_over_shots():
    vectors = torch.tensor([[0.0], [2.0], [10.0]])
    assert background_prototype(vectors, torch.tensor([0, 0, 2]), 3).item() == pytest.approx((1 + 10) / 2)


def test_match_is_scaled_cosine_per_image():
    features, shared = noise(2, 6, 3, 4), noise(5, 6, seed=1)
    own = noise(2, 5, 6, seed=2)
    got_shared, got_own = match(features, shared), match(features, own, scale=3.0)
    assert got_shared.shape == (2, 5, 3, 4)
    for b in range(2):
        for p in range(5):
            for y in range(3):
                cell = features[b, :, y, 1]
                assert got_shared[b, p, y, 1] == pytest.approx(
                    20 * F.cosine_similarity(cell, shared[p], 0).item(), abs=1e-4
                )
                assert got_own[b, p, y, 1] == pytest.approx(
                    3 * F.cosine_similarity(cell, own[b, p], 0).item(), abs=1e-4
                )
    assert torch.equal(match(features, torch.zeros(1, 6)), torch.zeros(2, 1, 3, 4))


def test_match_refuses_another_width():
    with pytest.raises(ValueError, match="same D"):
        match(noise(1, 6, 3, 4), noise(5, 7))


def test_vote_divides_by_the_largest_that_occurs():
    logits = torch.zeros(2, 3, 2, 1, 3)  # two images, three shots, 1 x 3 pixels
    logits[0, :2, 1, 0, 0] = 1.0  # two shots see pixel 0
    logits[0, 0, 1, 0, 1] = 1.0  # one sees pixel 1
    votes, share = vote(logits)
    assert votes[0].tolist() == [[2, 1, 0]] and share[0].tolist() == [[1.0, 0.5, 0.0]]
    assert share[1].tolist() == [[0.0, 0.0, 0.0]]  # nobody sees anything: no division by zero
