"""Agreement across pictures of one tag: regions of the others confirm a map.

Group-WSSS (Li et al., AAAI 2021, arXiv 2012.05007) mines a group by co-attention, RPNet (Liu et al., TMM 2021, arXiv
2108.07413) compares regions with region prototypes. Nothing is trained here: the prototypes are means of a frozen
backbone's tokens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CORE = 0.5  # share of a map's maximum from which a patch belongs to the region that makes the prototype
CELLS = 2**26  # patches x regions that are compared together: 256 MiB


def unit_patches(tokens: Tensor) -> Tensor:
    """Patch tokens [B, N, D] centred over each picture's patches, to unit length, float32."""
    x = tokens.float()
    return F.normalize(x - x.mean(1, keepdim=True), dim=-1)


def cross_image(maps: Tensor, features: Tensor, classes: Tensor, strength: float) -> Tensor:
    """Mix every map with the likeness of its patches to that class's regions in the other pictures of the batch.

    The result depends on which pictures come together, by nature; a class that no other picture has keeps its map.

    Args:
        maps: [B, K, h, w] in [0, 1], the group. features: [B, N, D] of ``unit_patches``.
        classes: [B, K] int64, the class of each map; -1 pads.
        strength: share of the likeness in the mixture, in [0, 1].

    Returns:
        [B, K, h, w] float32 in [0, 1].

    Raises:
        ValueError: strength outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength}; a share in [0, 1] is needed, for example 0.2")
    maps = maps.float()
    batch, count = classes.shape
    cores = maps.flatten(2) * (maps > CORE * maps.amax((-2, -1), keepdim=True)).flatten(2)  # [B, K, N]
    prototypes = F.normalize(cores @ features, dim=-1).flatten(0, 1)  # [B K, D]
    owner = torch.arange(batch, device=classes.device).repeat_interleave(count)  # the picture of each region
    known = (cores.any(-1) & (classes >= 0)).flatten()
    alike = (classes.flatten()[:, None] == classes.flatten()) & (owner[:, None] != owner) & known[:, None] & known
    alike = torch.unflatten(alike.float(), 0, (batch, count))  # [B, K, B K]
    step = max(1, CELLS // max(1, features.shape[1] * batch * count))
    parts = zip(torch.split(features, step), torch.split(alike, step), strict=True)
    likeness = torch.cat([mine @ (some @ prototypes.t()).clamp_min(0).transpose(1, 2) for some, mine in parts])
    others = alike.sum(-1, keepdim=True)  # [B, K, 1]
    mixed = torch.lerp(maps.flatten(2), _stretched(likeness / others.clamp_min(1)), strength)
    out = torch.where(others > 0, mixed, maps.flatten(2)).view_as(maps)
    return out / out.amax((-2, -1), keepdim=True).clamp_min(1e-7)


def _stretched(values: Tensor) -> Tensor:
    """Minimum to 0, maximum to 1, over the last axis."""
    low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    return (values - low) / (high - low).clamp_min(1e-7)
