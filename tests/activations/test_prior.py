"""The dense prior against a loop over cells."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clipseg_ws.activations.prior import dense_prior, nearest_cosine


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_nearest_cosine_by_loop_and_in_chunks():
    query, cells = noise(2, 5, 3, 4), noise(11, 5, seed=1)
    got = nearest_cosine(query, cells)
    want = max(F.cosine_similarity(query[1, :, 2, 0], c, 0).item() for c in cells)
    assert got[1, 2, 0] == pytest.approx(want, abs=1e-5)
    assert torch.allclose(nearest_cosine(query, cells, chunk=3), got)
    assert torch.equal(nearest_cosine(query, cells[:0]), torch.full((2, 3, 4), -1.0))


def test_prior_with_full_masks_is_the_stretched_maximum():
    query, support = noise(2, 5, 3, 4), noise(2, 5, 4, 6, seed=1)
    prior = dense_prior(query, support, torch.ones(2, 8, 12))
    assert prior.shape == (2, 2, 3, 4)
    cells = support[1].flatten(1).t()
    best = nearest_cosine(query, cells)[0]
    want = (best - best.min()) / (best.max() - best.min())
    assert torch.allclose(prior[0, 1], want, atol=1e-4)


def test_zero_cells_hide_negative_similarity():
    query = torch.ones(1, 2, 1, 2)
    query[0, :, 0, 1] = -1  # opposite to the support
    support = torch.ones(1, 2, 2, 2)
    mask = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    hidden = dense_prior(query, support, mask)[0, 0, 0]
    assert hidden.tolist() == pytest.approx([1.0, 0.0], abs=1e-5)
    assert dense_prior(query, support, torch.zeros(1, 2, 2)).abs().max() == 0  # empty mask: nothing, and no NaN


def test_prior_refuses_other_widths():
    with pytest.raises(ValueError, match="are needed"):
        dense_prior(noise(1, 5, 3, 4), noise(1, 6, 3, 4), torch.ones(1, 3, 4))
