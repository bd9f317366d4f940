"""Part prototypes: clusters that are there are found, weights count, the maximum is taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clipseg_ws.activations.parts import kmeans, match_parts


def clusters(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """[2, 60, 8] patches around 3 orthogonal directions, 20 each, and the directions [3, 8]."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.eye(8)[:3]
    patches = centres.repeat_interleave(20, 0) + 0.05 * torch.randn(2, 60, 8, generator=g)
    return 3 * patches[:, torch.randperm(60, generator=g)], centres


def test_kmeans_finds_the_clusters():
    patches, centres = clusters()
    found = kmeans(patches, torch.ones(2, 60), 3)
    assert found.shape == (2, 3, 8)
    best = (found @ centres.t()).amax(1)  # for every true centre its nearest found one
    assert (best > 0.99).all()
    assert torch.allclose(found.norm(dim=-1), torch.ones(2, 3), atol=1e-5)


def test_kmeans_is_a_fixed_point_and_repeatable():
    patches, _ = clusters(1)
    weights = torch.rand(2, 60, generator=torch.Generator().manual_seed(2))
    found = kmeans(patches, weights, 3, iterations=50)
    unit = F.normalize(patches, dim=-1)
    for b in range(2):
        owner = (unit[b] @ found[b].t()).argmax(1)
        for p in range(3):
            mine = owner == p
            mean = F.normalize((unit[b][mine] * weights[b][mine, None]).sum(0), dim=0)
            assert torch.allclose(found[b, p], mean, atol=1e-5)
    assert torch.equal(found, kmeans(patches, weights, 3, iterations=50))


def test_patches_without_weight_do_not_count():
    patches, centres = clusters()
    weights = (F.normalize(patches, dim=-1) @ centres[0] > 0.5).float()  # only the first cluster
    found = kmeans(patches, weights, 2)
    assert ((found @ centres[0]) > 0.9).all()


def test_fewer_patches_than_centres_and_none():
    patches = torch.eye(4)[None, :2]
    found = kmeans(patches, torch.ones(1, 2), 5)
    assert torch.isfinite(found).all() and set(found[0].argmax(1).tolist()) == {0, 1}
    assert torch.equal(kmeans(patches, torch.zeros(1, 2), 3), torch.zeros(1, 3, 4))


def test_kmeans_refuses_nonsense():
    with pytest.raises(ValueError, match="count=0"):
        kmeans(torch.ones(1, 2, 3), torch.ones(1, 2), 0)


def test_match_parts_takes_the_best_part_per_image():
    features = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(3))
    parts = torch.randn(2, 5, 2, 8, generator=torch.Generator().manual_seed(4))  # own parts for each image
    got = match_parts(features, parts, scale=10.0)
    for b in range(2):
        want = max(F.cosine_similarity(features[b, :, 2, 3], parts[b, 4, p], 0).item() for p in range(2))
        assert got[b, 4, 2, 3] == pytest.approx(10 * want, abs=1e-4)
    assert torch.equal(match_parts(features, parts[0])[:1], match_parts(features[:1], parts[:1]))
