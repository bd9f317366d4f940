"""Part prototypes: several prototypes a class, by k-means over its foreground (PPNet, Liu et al., ECCV 2020, arXiv
2007.06309). A patch takes the maximum over the parts of a class. The same clustering gives background prototypes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations.prototypes import cosine


def kmeans(patches: Tensor, weights: Tensor, count: int, *, iterations: int = 10) -> Tensor:
    """Weighted spherical k-means, the same result at every run: farthest-first start, then Lloyd's iterations.

    Args:
        patches: [B, M, D]. weights: [B, M] non-negative; 0 leaves a patch out.
        count: number of centres P. iterations: at most that many.

    Returns:
        [B, P, D] float32 unit vectors. With fewer than P different patches some centres repeat; without any weight all
        are zero.

    Raises:
        ValueError: shapes that do not fit, or ``count`` below 1.
    """
    if patches.ndim != 3 or weights.shape != patches.shape[:2] or count < 1:
        raise ValueError(
            f"patches {tuple(patches.shape)}, weights {tuple(weights.shape)}, count={count}; [B, M, D], [B, M] and at "
            "least 1 are needed, for example [1, 300, 768], [1, 300] and 4"
        )
    unit = F.normalize(patches.float(), dim=-1)
    weights = weights.float()
    centres = _farthest_first(unit, weights, count)
    for _ in range(iterations):
        nearest = (unit @ centres.transpose(1, 2)).argmax(-1)  # [B, M]
        member = F.one_hot(nearest, count).float() * weights[..., None]  # [B, M, P]
        total = member.transpose(1, 2) @ unit
        moved = torch.where(member.sum(1)[..., None] > 0, F.normalize(total, dim=-1), centres)
        if centres.device.type == "cpu" and torch.equal(moved, centres):  # a GPU would be asked every time
            break
        centres = moved
    return centres


def match_parts(features: Tensor, parts: Tensor, *, scale: float = 20.0) -> Tensor:
    """scale x the largest cosine over the parts of each class.

    Args:
        features: [B, D, h, w]. parts: [K, P, D], or [B, K, P, D] for each image its own.

    Returns:
        [B, K, h, w] float32.
    """
    classes, count = parts.shape[-3], parts.shape[-2]
    flat = parts.flatten(-3, -2)  # [(B,) K P, D]
    return scale * torch.unflatten(cosine(features, flat), 1, (classes, count)).amax(2)


def _farthest_first(unit: Tensor, weights: Tensor, count: int) -> Tensor:
    """[B, P, D]: the mean direction's nearest patch, then always the patch least like all chosen so far."""
    outside = weights <= 0
    mean = F.normalize((unit * weights[..., None]).sum(1), dim=-1)
    chosen = [_take(unit, torch.einsum("bmd,bd->bm", unit, mean).masked_fill(outside, -torch.inf).argmax(1))]
    best = torch.einsum("bmd,bd->bm", unit, chosen[0])
    for _ in range(count - 1):
        chosen.append(_take(unit, best.masked_fill(outside, torch.inf).argmin(1)))
        best = torch.maximum(best, torch.einsum("bmd,bd->bm", unit, chosen[-1]))
    return torch.stack(chosen, 1) * (weights.sum(1) > 0)[:, None, None]


def _take(rows: Tensor, index: Tensor) -> Tensor:
    """rows [B, M, D], index [B] -> [B, D]."""
    return rows[torch.arange(len(rows), device=rows.device), index]
