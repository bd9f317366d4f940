"""Likeness of patches over blocks, against plain loops."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.refine.structure import block_structure


def test_every_pair_against_a_loop():
    torch.manual_seed(0)
    layers = [torch.randn(2, 6, 5), torch.randn(2, 6, 5) + 3]
    got = block_structure(layers, sharpness=2.0)
    for b in range(2):
        want = torch.zeros(6, 6)
        for layer in layers:
            x = layer[b] - layer[b].mean(0)
            cosine = torch.tensor([[float(torch.cosine_similarity(p, q, dim=0)) for q in x] for p in x])
            alike = cosine.clamp_min(0) ** 2
            want += alike / alike.sum(1, keepdim=True) / 2
        assert torch.allclose(got[b], want, atol=1e-5)
    assert torch.allclose(got.sum(-1), torch.ones(2, 6), atol=1e-5) and (got >= 0).all()


def test_what_all_patches_share_says_nothing():
    layer = torch.randn(1, 6, 5)
    assert torch.allclose(block_structure([layer]), block_structure([layer + 100]), atol=1e-4)


@pytest.mark.parametrize("count", [1, 4])
def test_patches_that_are_all_the_same_are_alike(count):
    layers = [torch.ones(2, count, 5), torch.zeros(2, count, 5)]
    assert torch.allclose(block_structure(layers), torch.full((2, count, count), 1 / count))
    mixed = block_structure([torch.ones(1, 4, 5), torch.randn(1, 4, 5)])
    assert torch.allclose(mixed.sum(-1), torch.ones(1, 4), atol=1e-5)


def test_wrong():
    with pytest.raises(ValueError, match="0 blocks"):
        block_structure([])
    with pytest.raises(ValueError, match="sharpness=0"):
        block_structure([torch.rand(1, 3, 2)], sharpness=0)
