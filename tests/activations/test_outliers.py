"""Outlier tokens: the local outlier factor from its definition, and the repair."""

from __future__ import annotations

import math

import pytest
import torch

from clipseg_ws.activations.outliers import (
    activation_peaks,
    find_outliers,
    local_outlier_factor,
    repair,
    replace_by_neighbours,
)


def plain_lof(points: torch.Tensor, k: int) -> list[float]:
    """Local outlier factor from its definition, point by point."""
    n = len(points)
    dist = [[math.dist(points[i].tolist(), points[j].tolist()) for j in range(n)] for i in range(n)]
    near = [sorted((j for j in range(n) if j != i), key=lambda j, i=i: dist[i][j])[:k] for i in range(n)]
    radius = [dist[i][near[i][-1]] for i in range(n)]
    density = [k / sum(max(radius[j], dist[i][j]) for j in near[i]) for i in range(n)]
    return [sum(density[j] for j in near[i]) / k / density[i] for i in range(n)]


def test_outliers_are_found_by_their_definition_and_replaced_by_clean_neighbours():
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(2, 12, 4, generator=generator)
    points[0, 5] += 30
    points[1, 11] -= 30
    factors = local_outlier_factor(points, neighbours=4)
    for image in range(2):
        torch.testing.assert_close(factors[image], torch.tensor(plain_lof(points[image], 4)), rtol=1e-4, atol=1e-4)
    found = find_outliers(points, 0.1)
    assert found.nonzero().tolist() == [[0, 5], [1, 11]]
    fixed = replace_by_neighbours(points, found, (3, 4))
    torch.testing.assert_close(fixed[0, 5], points[0][[0, 1, 2, 4, 6, 8, 9, 10]].mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(fixed[1, 11], points[1][[6, 7, 10]].mean(0), rtol=0, atol=1e-5)
    assert torch.equal(fixed[~found], points[~found])
    assert not find_outliers(points, 0.05).any()
    with pytest.raises(ValueError, match="lof, activation"):
        find_outliers(points, 0.1, method="norm")


def test_activation_peaks_see_one_loud_channel():
    points = torch.ones(1, 3, 8)
    points[0, 2, 4] = 100
    assert activation_peaks(points)[0].tolist() == pytest.approx([1 / 8, 1 / 8, 100 / 107])


def test_repair_changes_only_outlier_patches(tiny_backbone):
    pixels = torch.randn(3, 3, 48, 80, generator=torch.Generator().manual_seed(5))
    tokens = tiny_backbone.encode(pixels, attention_blocks=0)
    fixed = repair(tokens, 0.1)
    changed = (fixed.last_input != tokens.last_input).any(-1)
    assert changed[:, 0].sum() == 0 and changed.sum(1).tolist() == [1, 1, 1]
