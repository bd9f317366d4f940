"""Query-side refits: seeds, prototypes and the closed-form classifier against an independent least-squares solution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from clipseg_ws.activations.online import (
    Seeds,
    blend,
    classify_online,
    find_seeds,
    query_prototypes,
    support_moments,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_seeds_by_hand():
    maps = torch.tensor([[[[1.0, 0.9, 0.7, 0.2]], [[0.95, 1.0, 0.3, 0.1]]], [[[0.0, 0.0, 0.0, 0.0]]] * 2])
    seeds = find_seeds(maps, sure=0.85, unsure=0.5)
    assert seeds.foreground[0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]  # each cell to the larger map only
    assert seeds.background.tolist() == [[0, 0, 0, 1], [1, 1, 1, 1]]
    assert seeds.foreground.dtype == seeds.background.dtype == torch.float32
    with pytest.raises(ValueError, match=r"sure=0\.4, unsure=0\.6"):
        find_seeds(maps, sure=0.4, unsure=0.6)


def test_query_prototypes_come_from_seeds_of_each_image():
    e = torch.eye(5)
    features = torch.stack([e[0], e[4], e[1], e[2]], 1)[None, :, None].repeat(2, 1, 2, 1)  # [2, 5, 2, 4]
    own = torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 0])
    seeds = Seeds(torch.stack([own, 0 * own])[:, None], torch.tensor([0.0, 0, 1, 1, 0, 0, 1, 1]).repeat(2, 1))
    foreground, background = query_prototypes(features, seeds, 2)
    assert torch.allclose(foreground[0, 0], e[0], atol=1e-5) and foreground[1].abs().max() == 0
    assert {int(v.argmax()) for v in background[1]} == {1, 2}


def test_blend():
    support, fitted = torch.tensor([[2.0, 0.0]]), torch.tensor([[[0.0, 1.0]], [[0.0, 0.0]]])
    got = blend(support, fitted, 0.5)
    assert torch.allclose(got[0, 0], F.normalize(torch.tensor([1.0, 1.0]), dim=0))
    assert torch.allclose(got[1, 0], torch.tensor([1.0, 0.0]))  # nothing found: the support's stays
    assert torch.allclose(blend(support, fitted, 0.0)[0, 0], torch.tensor([1.0, 0.0]))


def least_squares(
    rows: np.ndarray, targets: np.ndarray, weights: np.ndarray, penalty: float, new: np.ndarray
) -> np.ndarray:
    """Weighted ridge regression with a free intercept by augmented rows (another way than normal equations)."""
    root = np.sqrt(weights)[:, None]
    top = np.hstack([rows * root, root])
    below = np.hstack([np.sqrt(penalty) * np.eye(rows.shape[1]), np.zeros((rows.shape[1], 1))])
    solution = np.linalg.lstsq(np.vstack([top, below]), np.concatenate([targets * root[:, 0], np.zeros(rows.shape[1])]),
                               rcond=None)[0]  # fmt: skip
    return new @ solution[:-1] + solution[-1]


@pytest.mark.parametrize("query_share", [0.0, 0.3, 1.0])
def test_classifier_is_the_weighted_ridge_regression(query_share):
    cells, features = noise(30, 6), noise(2, 6, 3, 4, seed=1)
    shares = torch.rand(2, 30, generator=torch.Generator().manual_seed(2))
    seeds = find_seeds(torch.rand(2, 2, 3, 4, generator=torch.Generator().manual_seed(3)), sure=0.7, unsure=0.5)
    got = classify_online(
        features, seeds, support_moments(cells, shares, 1 - shares), ridge=0.5, query_share=query_share
    )
    unit = F.normalize(cells, dim=-1).double().numpy()
    for b in range(2):
        query = F.normalize(features[b].flatten(1), dim=0).t().double().numpy()
        for k in range(2):
            own = seeds.foreground[b, k].numpy()
            other = (seeds.background[b] + seeds.foreground[b].sum(0) - seeds.foreground[b, k]).numpy()
            assert own.sum() and other.sum()
            parts = [(unit, shares[k].numpy(), 1, 1 - query_share), (unit, 1 - shares[k].numpy(), -1, 1 - query_share),
                     (query, own, 1, query_share), (query, other, -1, query_share)]  # fmt: skip
            rows = np.vstack([p[0] for p in parts])
            weights = np.concatenate([p[3] * p[1] / p[1].sum() / 2 for p in parts])
            targets = np.concatenate([np.full(len(p[0]), p[2]) for p in parts])
            mean = (weights[:, None] * rows).sum(0)
            variance = (weights[:, None] * (rows - mean) ** 2).sum(0).mean()
            want = least_squares(rows, targets, weights, 0.5 * variance, query)
            assert np.allclose(got[b, k].flatten().numpy(), want, atol=1e-4)


def test_without_seeds_the_supports_decide_and_images_are_alone():
    cells, features = noise(30, 6), noise(2, 6, 3, 4, seed=1)
    shares = torch.rand(1, 30, generator=torch.Generator().manual_seed(2))
    moments = support_moments(cells, shares, 1 - shares)
    empty = Seeds(torch.zeros(2, 1, 12), torch.ones(2, 12))
    only_supports = classify_online(features, empty, moments, query_share=0.0)
    assert torch.allclose(classify_online(features, empty, moments, query_share=0.5), only_supports, atol=1e-5)
    some = find_seeds(torch.rand(2, 1, 3, 4, generator=torch.Generator().manual_seed(4)), sure=0.6, unsure=0.4)
    both = classify_online(features, some, moments)
    alone = classify_online(features[1:], Seeds(some.foreground[1:], some.background[1:]), moments)
    assert torch.allclose(both[1:], alone, atol=1e-5)


def test_classifier_refuses_nonsense():
    cells = noise(4, 6)
    moments = support_moments(cells, torch.ones(1, 4), torch.ones(1, 4))
    with pytest.raises(ValueError, match="ridge=0"):
        classify_online(noise(1, 6, 1, 2), Seeds(torch.ones(1, 1, 2), torch.ones(1, 2)), moments, ridge=0)
