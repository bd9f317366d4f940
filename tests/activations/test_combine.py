"""Names and examples as one map."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.activations.combine import combine


def test_geometric_mean_where_both_know_and_the_one_that_knows_elsewhere():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 3, 2, 4, generator=generator), torch.rand(2, 3, 2, 4, generator=generator)
    knows_a = torch.tensor([[True, True, False], [True, False, False]])
    knows_b = torch.tensor([[True, False, True], [True, True, False]])
    got = combine(a, b, knows_a, knows_b, weight=0.7)
    torch.testing.assert_close(got[:, 0], a[:, 0] ** 0.3 * b[:, 0] ** 0.7)
    torch.testing.assert_close(got[0, 1], a[0, 1])
    torch.testing.assert_close(got[:1, 2], b[:1, 2])
    torch.testing.assert_close(got[1, 1], b[1, 1])
    assert not got[1, 2].any()  # nobody knows


def test_weights_at_the_ends_are_one_opinion_alone():
    a, b = torch.rand(1, 2, 3, 2).clamp_min(0.01), torch.rand(1, 2, 3, 2).clamp_min(0.01)
    yes = torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(combine(a, b, yes, yes, weight=0.0), a)
    torch.testing.assert_close(combine(a, b, yes, yes, weight=1.0), b)
    assert combine(a[:, :0], b[:, :0], yes[:, :0], yes[:, :0]).shape == (1, 0, 3, 2)


def test_a_clear_no_of_one_is_not_outvoted():
    yes = torch.ones(1, 1, dtype=torch.bool)
    got = combine(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), yes, yes, weight=0.5)
    assert got.item() == pytest.approx(1e-3)


def test_wrong_weight_or_shapes():
    yes = torch.ones(1, 1, dtype=torch.bool)
    for weight, other in ((1.5, torch.zeros(1, 1, 2, 2)), (0.5, torch.zeros(1, 1, 2, 3))):
        with pytest.raises(ValueError, match="a weight in"):
            combine(torch.zeros(1, 1, 2, 2), other, yes, yes, weight=weight)
