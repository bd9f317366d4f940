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


def test_equals_the_second_eigenvector():
    inside = blob(6, 8)
    graph = torch.stack([graph_of(inside, 0), graph_of(blob(8, 6).t(), 1)])
    got = attention_saliency(graph, (6, 8), rounds=400)
    for b in range(2):
        links = graph[b] + graph[b].t()
        degree = links.sum(1)
        _, vectors = torch.linalg.eigh(links / (degree[:, None] * degree[None]).sqrt())
        side = vectors[:, -2] / degree.sqrt()
        side = side if float(side @ inside.flatten()) > 0 else -side
        side = (side - side.min()) / (side.max() - side.min())
        if b == 0:
            assert torch.allclose(got[b].flatten(), side, atol=1e-2)
    assert (got[0][inside > 0].min() > got[0][inside == 0].max()) and got.amin() == 0 and got.amax() == 1


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
