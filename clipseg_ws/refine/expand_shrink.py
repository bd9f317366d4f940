"""Expand, then shrink (ESOL, Li et al., NeurIPS 2022, arXiv 2209.07761).

The paper learns two samplers: one reaches out for the less telling parts of a thing, the other draws back from the
ground that was caught with them. Without training: a root lifts the faint parts of a map, and then every patch answers
whether its token is nearer to the map's core or to what no map claims.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHARPNESS = 2.0  # of the answer; cosines differ by 0 to 2


def expand_shrink(maps: Tensor, features: Tensor, *, power: float = 0.5, sharpness: float = SHARPNESS) -> Tensor:
    """Maps raised to ``power``, weighed by how much nearer a patch is to the class than to the ground.

    Args:
        maps: [B, K, h, w] in [0, 1]; an all-zero map stays zero.
        features: [B, N, D] unit vectors, see ``activations.crossimage.unit_patches``.
        power: of the expansion, in (0, 1]; 1 expands nothing.
        sharpness: factor of the cosines' difference in the sigmoid that shrinks.

    Returns:
        [B, K, h, w] float32 in [0, 1], each maximum 1.

    Raises:
        ValueError: a power outside (0, 1].
    """
    if not 0 < power <= 1:
        raise ValueError(f"power={power}; an exponent in (0, 1] is needed, for example 0.5")
    grid = maps.shape[-2:]
    if not maps.shape[1]:
        return maps.float()
    flat = maps.float().clamp_min(0).flatten(2)  # [B, K, N]
    core = F.normalize(flat.square() @ features, dim=-1)  # [B, K, D]
    unclaimed = (1 - flat.amax(1, keepdim=True)).clamp_min(0).square()  # [B, 1, N]
    ground = F.normalize(unclaimed @ features, dim=-1)
    nearer = (core - ground) @ features.transpose(1, 2)  # difference of the cosines, [B, K, N]
    out = flat**power * torch.sigmoid(sharpness * nearer)
    return torch.unflatten(out / out.amax(-1, keepdim=True).clamp_min(1e-7), -1, grid)
