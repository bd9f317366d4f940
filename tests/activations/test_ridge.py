"""The classifier on supports against least squares written out, and what only it can tell apart."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clipseg_ws.activations.online import support_moments
from clipseg_ws.activations.ridge import fit_ridge, ridge_answers


@pytest.mark.parametrize("penalty", [0.1, 3.0])
def test_the_weighted_least_squares_of_both_sides(penalty):
    g = torch.Generator().manual_seed(0)
    cells, share = torch.randn(40, 5, generator=g), torch.rand(2, 40, generator=g)
    got = ridge_answers(cells.t()[None, :, None], fit_ridge(support_moments(cells, share, 1 - share),
                                                            torch.full((2,), penalty)))  # fmt: skip
    unit = F.normalize(cells, dim=1).double()
    for k in range(2):
        own, other = (w.double() / w.double().sum() for w in (share[k], 1 - share[k]))
        centre = (own @ unit + other @ unit) / 2
        moved, pair = unit - centre, torch.cat([own, other]) / 2
        rows, goal = torch.cat([moved, moved]), torch.cat([torch.ones(40), -torch.ones(40)]).double()
        spread = ((own + other) / 2)[:, None] * moved**2
        extra = (penalty * spread.sum(0).mean()).sqrt() * torch.eye(5).double()
        left = torch.cat([pair.sqrt()[:, None] * rows, extra])
        slope = torch.linalg.lstsq(left, torch.cat([pair.sqrt() * goal, torch.zeros(5).double()])[:, None]).solution
        assert torch.allclose(got[0, k, 0].double(), (moved @ slope)[:, 0], atol=1e-5)


def test_a_class_that_varies_more_than_it_differs():
    """Class and rest differ in the third number alone; the means differ most in the second, by chance."""
    along = torch.linspace(-1, 1, 21)
    own = torch.stack([torch.ones(21), along + 0.3, torch.full((21,), 0.15)], 1)
    rest = torch.stack([torch.ones(21), along - 0.3, torch.full((21,), -0.15)], 1)
    cells = torch.cat([own, rest])
    inside = torch.cat([torch.ones(21), torch.zeros(21)])[None]
    truth = inside[0] > 0
    mean, ground = F.normalize(own, dim=1).mean(0), F.normalize(rest, dim=1).mean(0)
    by_means = F.cosine_similarity(cells, mean[None]) > F.cosine_similarity(cells, ground[None])
    assert (by_means == truth).float().mean() < 0.8
    ridge = fit_ridge(support_moments(cells, inside, 1 - inside), torch.tensor([0.01]))
    assert torch.equal(ridge_answers(cells.t()[None, :, None], ridge).flatten() > 0, truth)


def test_no_penalty_is_an_error():
    moments = support_moments(torch.eye(2), torch.tensor([[1.0, 0]]), torch.tensor([[0, 1.0]]))
    with pytest.raises(ValueError, match="positive numbers are needed"):
        fit_ridge(moments, torch.tensor([0.0]))
