"""The dense prior against a loop over cells."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clipseg_ws.activations.prior import nearest_cosine


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_nearest_cosine_by_loop_and_in_chunks():
    query, cells = noise(2, 5, 3, 4), noise(11, 5, seed=1)
    got = nearest_cosine(query, cells)
    want = max(F.cosine_similarity(query[1, :, 2, 0], c, 0).item() for c in cells)
    assert got[1, 2, 0] == pytest.approx(want, abs=1e-5)
    assert torch.allclose(nearest_cosine(query, cells, chunk=3), got)
    assert torch.equal(nearest_cosine(query, cells[:0]), torch.full((2, 3, 4), -1.0))


def test_zero_cells_hide_negative_similarity():
    """What PFENet's masked supports do: a cell outside the mask is a zero vector and counts with similarity 0."""
    query = torch.ones(1, 2, 1, 2)
    query[0, :, 0, 1] = -1  # opposite to the support
    cells = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert nearest_cosine(query, cells[:1])[0, 0].tolist() == pytest.approx([1.0, -1.0], abs=1e-5)
    assert nearest_cosine(query, cells)[0, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-5)
    assert nearest_cosine(query, cells[1:]).abs().max() == 0  # empty mask: nothing, and no NaN
