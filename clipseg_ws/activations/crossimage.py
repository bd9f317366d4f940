"""Agreement across pictures of one tag: regions of the others confirm a map.

Group-WSSS (Li et al., AAAI 2021, arXiv 2012.05007) mines a group by co-attention, RPNet (Liu et al., TMM 2021, arXiv
2108.07413) compares regions with region prototypes. Nothing is trained here: the prototypes are means of a frozen
backbone's tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

CORE = 0.5  # share of a map's maximum from which a patch belongs to the region that makes the prototype


def unit_patches(tokens: Tensor) -> Tensor:
    """Patch tokens [B, N, D] centred over each picture's patches, to unit length, float32."""
    x = tokens.float()
    return F.normalize(x - x.mean(1, keepdim=True), dim=-1)


def cross_image(maps: Tensor, features: Tensor, classes: Sequence[Sequence[int]], strength: float) -> Tensor:
    """Mix every map with the likeness of its patches to that class's regions in the other pictures of the batch.

    The result depends on which pictures come together, by nature; a class that no other picture has keeps its map.

    Args:
        maps: [B, K, h, w] in [0, 1], the group. features: [B, N, D] of ``unit_patches``.
        classes: for each picture the class of each of its maps; further maps are padding.
        strength: share of the likeness in the mixture, in [0, 1].

    Returns:
        [B, K, h, w] float32 in [0, 1].

    Raises:
        ValueError: strength outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength}; a share in [0, 1] is needed, for example 0.2")
    maps = maps.float()
    cores = maps.flatten(2) * (maps > CORE * maps.amax((-2, -1), keepdim=True)).flatten(2)  # [B, K, N]
    prototypes = F.normalize(cores @ features, dim=-1)  # [B, K, D]
    out = maps.clone()
    for b, members in enumerate(classes):
        for k, c in enumerate(members):
            others = [
                prototypes[o, theirs.index(c)]
                for o, theirs in enumerate(map(list, classes))
                if o != b and c in theirs and cores[o, theirs.index(c)].any()
            ]
            if others and cores[b, k].any():
                likeness = (features[b] @ torch.stack(others).t()).clamp_min(0).mean(1)  # [N]
                out[b, k] = torch.lerp(maps[b, k].flatten(), _stretched(likeness), strength).view_as(maps[b, k])
    top = out.amax((-2, -1), keepdim=True)
    return out / top.clamp_min(1e-7)


def _stretched(values: Tensor) -> Tensor:
    """Minimum to 0, maximum to 1."""
    low, high = values.amin(), values.amax()
    return (values - low) / (high - low).clamp_min(1e-7)
