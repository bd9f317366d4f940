"""Maps spread from region to region instead of from patch to patch: n x n numbers in place of N x N."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.regions.region_set import RegionSet


def region_affinity(
    maps: Tensor, patches: Tensor, regions: Sequence[RegionSet], *, weight: float = 0.5, sharpness: float = 20.0
) -> Tensor:
    """``map^(1 - weight) * spread^weight``, the spread map being that of regions alike to a patch's own.

    Args:
        maps: [B, K, h, w] in [0, 1]. patches: [B, N, D] tokens, row by row. regions: of each picture.
        weight: (0, 1]. sharpness: of the softmax over the cosines of regions' mean tokens; larger keeps maps closer.

    Returns:
        [B, K, h, w] in [0, 1]; patches of no region keep their values.
    """
    rows = [_spread(m, p, r, sharpness) for m, p, r in zip(maps, patches, regions, strict=True)]
    return maps ** (1 - weight) * torch.stack(rows) ** weight


def _spread(maps: Tensor, patches: Tensor, regions: RegionSet, sharpness: float) -> Tensor:
    """One picture's maps [K, h, w]."""
    share = torch.from_numpy(regions.coverage((maps.shape[1], maps.shape[2]))).to(maps.device)  # [n, N]
    if not len(share):
        return maps
    mean = share / share.sum(1, keepdim=True).clamp_min(1e-12)
    unit = F.normalize(mean @ (patches - patches.mean(0)).float(), dim=-1)
    alike = (sharpness * unit @ unit.t()).softmax(-1)  # [n, n]
    spread = alike @ (mean @ maps.float().flatten(1).t())  # [n, K]
    total = share.sum(0)
    inside = (share.t() @ spread) / total.clamp_min(1e-12)[:, None]  # [N, K]
    kept = total.clamp_max(1)[:, None]
    made = kept * inside + (1 - kept) * maps.float().flatten(1).t()
    return made.t().reshape(maps.shape).clamp(0, 1).to(maps.dtype)
