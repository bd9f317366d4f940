"""A saliency prior out of the attention: what stands out from the ground, whatever its class.

I2CRC (Chen et al., TMM 2022, arXiv 2206.09554) lets saliency maps of another network hold a class map to the object.
Here the prior costs nothing: the graph of attention or likeness between patches is cut in two by the second eigenvector
of its normalised Laplacian (Shi and Malik, TPAMI 2000; on transformer tokens TokenCut, Wang et al., CVPR 2022, arXiv
2202.11539), and the side that holds less of the picture's border is the object's.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 60  # of the power iteration; the map hardly moves after 30


def attention_saliency(graph: Tensor, grid: tuple[int, int], *, rounds: int = ROUNDS) -> Tensor:
    """Saliency of every patch.

    Args:
        graph: [B, N, N] non-negative, N = h*w; made symmetric here. grid: (h, w).
        rounds: of the power iteration that finds the eigenvector.

    Returns:
        [B, h, w] float32 in [0, 1], 0 and 1 reached (all zero where all patches are alike).

    Raises:
        ValueError: a graph that does not fit the grid.
    """
    height, width = grid
    if graph.shape[1:] != (height * width, height * width):
        raise ValueError(f"graph is {tuple(graph.shape)}; [B, N, N] with N = {height} x {width} is needed")
    links = graph.float()
    links = links + links.transpose(1, 2)
    degree = links.sum(-1).clamp_min(1e-12).sqrt()  # [B, N]
    trivial = (degree / degree.norm(dim=1, keepdim=True))[..., None]
    border = _border(height, width, graph)
    vector = (0.5 - border)[None, :, None].expand(len(graph), -1, 1)
    for _ in range(rounds):
        vector = vector - trivial * (trivial * vector).sum(1, keepdim=True)
        vector = vector / vector.norm(dim=1, keepdim=True).clamp_min(1e-12)
        # (I + D^-1/2 W D^-1/2) / 2 has the same vectors and no negative values, so the largest one left wins
        vector = (vector + (links @ (vector / degree[..., None])) / degree[..., None]) / 2
    side = vector[..., 0] / degree
    mean = side.mean(1, keepdim=True)
    outside = ((side > mean) * border).sum(1, keepdim=True) > border.sum() / 2
    side = torch.where(outside, -side, side)
    side = side - side.amin(1, keepdim=True)
    return torch.unflatten(side / side.amax(1, keepdim=True).clamp_min(1e-12), 1, grid)


def apply_saliency(maps: Tensor, saliency: Tensor, strength: float) -> Tensor:
    """Maps [B, K, h, w] in [0, 1] mixed with their square root times the saliency [B, h, w]; float32 in [0, 1].

    The root lifts what a class map holds only faintly, the saliency keeps that to what stands out.
    Raises ValueError for a strength outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength}; a share in [0, 1] is needed, for example 0.3")
    maps = maps.float().clamp_min(0)
    mixed = torch.lerp(maps, maps.sqrt() * saliency[:, None], strength)
    return mixed / mixed.amax((-2, -1), keepdim=True).clamp_min(1e-7)


def _border(height: int, width: int, like: Tensor) -> Tensor:
    """[N] float32, 1 on the patches at the picture's border."""
    mark = torch.ones(height, width, device=like.device)
    mark[1:-1, 1:-1] = 0
    return mark.flatten()
