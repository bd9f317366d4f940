"""Saliency out of a graph: the eigenvector against torch's, and the right side of the cut."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.refine.saliency import apply_saliency, attention_saliency


def blob(height: int, width: int) -> torch.Tensor:
    inside = torch.zeros(height, width)
    inside[2:4, 2:5] = 1
    return inside


def graph_of(inside: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    side = inside.flatten()
    same = (side[:, None] == side[None]).float()
    return same + 0.1 + 0.2 * torch.rand(len(side), len(side), generator=generator)


def corner(height: int, width: int) -> torch.Tensor:
    """Its cells lie at the border more often than those of the ground, but it holds the lesser part of the border."""
    inside = torch.zeros(height, width)
    inside[:3, :3] = 1
    return inside


def second_eigenvector(graph: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """[h, w] in [0, 1] by torch's solver, the side with the lesser part of the border up."""
    links = graph + graph.t()
    degree = links.sum(1)
    _, vectors = torch.linalg.eigh(links / (degree[:, None] * degree[None]).sqrt())
    side = (vectors[:, -2] / degree.sqrt()).view(height, width)
    cells = [(y, x) for y in range(height) for x in range(width)]
    border = [c for c in cells if c[0] in (0, height - 1) or c[1] in (0, width - 1)]
    side = -side if sum(float(side[c]) > float(side.mean()) for c in border) > len(border) / 2 else side
    return (side - side.min()) / (side.max() - side.min())


def test_equals_the_second_eigenvector():
    things = [blob(6, 8), blob(8, 6).t(), corner(6, 8), 1 - corner(6, 8)]
    graph = torch.stack([graph_of(inside, seed) for seed, inside in enumerate(things)])
    got = attention_saliency(graph, (6, 8), rounds=400)
    for b, inside in enumerate(things):
        assert torch.allclose(got[b], second_eigenvector(graph[b], 6, 8), atol=1e-4)
        less = inside if b < 3 else 1 - inside
        assert got[b][less > 0].min() > got[b][less == 0].max()
    assert (got.amin((1, 2)) == 0).all() and torch.allclose(got.amax((1, 2)), torch.ones(4))


def test_applied():
    maps = torch.rand(2, 3, 6, 8)
    maps[1, 2] = 0
    saliency = blob(6, 8).expand(2, -1, -1)
    out = apply_saliency(maps, saliency, 1.0)
    assert not out[:, :, saliency[0] == 0].any() and not out[1, 2].any()
    assert torch.allclose(out[0, 0].amax(), torch.tensor(1.0), atol=1e-5)
    same = apply_saliency(maps, saliency, 0.0)
    assert torch.allclose(same, maps / maps.amax((-2, -1), keepdim=True).clamp_min(1e-7))


def test_wrong():
    with pytest.raises(ValueError, match="N = 3 x 4"):
        attention_saliency(torch.rand(1, 4, 4), (3, 4))
    with pytest.raises(ValueError, match="strength=-1"):
        apply_saliency(torch.rand(1, 1, 3, 4), torch.rand(1, 3, 4), -1)
