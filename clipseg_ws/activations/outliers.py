"""Outlier patch tokens (register-like tokens that all others look at) found and replaced before the last block.

SC-CLIP (Bai et al., arXiv 2411.15869): the local outlier factor picks a fixed share of the tokens, each becomes the
mean of its 3 x 3 neighbours that are no outliers. RF-CLIP (Li et al., AAAI 2026, arXiv 2511.16170) finds such tokens by
a few over-activated channels; ``activation_peaks`` is that score.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.structures import Tokens


def local_outlier_factor(points: Tensor, neighbours: int = 10) -> Tensor:
    """Breunig et al. 2000: mean density of a point's neighbours over its own, about 1 inside a cluster.

    [B, N, D] -> [B, N] float32; Euclidean distances, ``neighbours`` is cut to N - 1. Raises ValueError for N < 2.
    """
    count = points.shape[1]
    if count < 2:
        raise ValueError(f"{count} tokens an image; at least 2 are needed, for example a grid of 14 x 14")
    k = min(neighbours, count - 1)
    distances = torch.cdist(points.float(), points.float())
    distances = distances + torch.diag(distances.new_full((count,), float("inf")))  # nobody is his own neighbour
    near, index = distances.topk(k, largest=False)  # [B, N, k]
    reach = torch.maximum(near, _at(near[..., -1], index))
    density = 1 / reach.mean(-1).clamp_min(1e-12)
    return _at(density, index).mean(-1) / density


def activation_peaks(points: Tensor) -> Tensor:
    """[B, N, D] -> [B, N]: the largest share that one channel has in a token's absolute sum (RF-CLIP)."""
    size = points.float().abs()
    return (size / size.sum(-1, keepdim=True).clamp_min(1e-12)).amax(-1)


def find_outliers(points: Tensor, fraction: float = 0.05, *, method: str = "lof") -> Tensor:
    """[B, N] bool: the ``fraction`` of each image's tokens (rounded down) with the largest score.

    ``method``: "lof" or "activation". Raises ValueError for another one or a fraction outside [0, 1).
    """
    scores = {"lof": local_outlier_factor, "activation": activation_peaks}
    if method not in scores or not 0 <= fraction < 1:
        raise ValueError(
            f"method={method!r}, fraction={fraction}; methods are {', '.join(scores)}, fractions 0 to below 1, for "
            "example find_outliers(tokens, 0.05, method='lof')"
        )
    found = torch.zeros(points.shape[:2], dtype=torch.bool, device=points.device)
    count = int(fraction * points.shape[1])
    if not count:  # a single patch has nothing to be compared with
        return found
    values = scores[method](points)
    return found.scatter(1, values.topk(count, dim=1).indices, True)


def replace_by_neighbours(points: Tensor, outliers: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, N, D] with every outlier replaced by the mean of its 3 x 3 neighbours that are none (none left: kept)."""
    image = torch.unflatten(points.transpose(1, 2), 2, grid)  # [B, N, D] -> [B, D, h, w]
    good = torch.unflatten(~outliers, 1, grid).unsqueeze(1).to(points.dtype)  # [B, 1, h, w]
    total = F.avg_pool2d(image * good, 3, stride=1, padding=1) * 9
    count = F.avg_pool2d(good, 3, stride=1, padding=1) * 9
    mean = (total / count.clamp_min(1)).flatten(2).transpose(1, 2)  # [B, D, h, w] -> [B, N, D]
    use = outliers & (count.flatten(1) > 0.5)
    return torch.where(use.unsqueeze(-1), mean, points)


def repair(tokens: Tokens, share: float = 0.05, *, method: str = "lof") -> Tokens:
    """``tokens`` whose ``last_input`` has its outlier patches replaced; attention and layers stay as they are."""
    patches = tokens.last_input[:, 1:]
    outliers = find_outliers(patches, share, method=method)
    fixed = replace_by_neighbours(patches, outliers, tokens.grid)
    return replace(tokens, last_input=torch.cat([tokens.last_input[:, :1], fixed], 1), last=None)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """values [B, N] at index [B, N, k] -> [B, N, k]."""
    return values.unsqueeze(1).expand(-1, index.shape[1], -1).gather(2, index)
