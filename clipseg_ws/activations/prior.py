"""Dense prior: for every query cell the largest cosine with any foreground cell of a support (PFENet, Tian et al.,
TPAMI 2020, arXiv 2008.01449).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-7


def dense_prior(query: Tensor, support: Tensor, masks: Tensor) -> Tensor:
    """PFENet's prior, one map a support; its mean over axis 1 is the prior of K shots.

    Args:
        query: [B, D, h, w]. support: [S, D, h', w'] features of the supports.
        masks: [S, H, W], 1 object, 0 background, shares between; resized to the support's grid bilinearly with
            align_corners=True and multiplied with its features.

    Returns:
        [B, S, h, w] float32 in [0, 1], min-max over each map. A cell with mask 0 counts with similarity 0, as in the
        reference: negative similarities are hidden as soon as there is one.

    Raises:
        ValueError: shapes that do not fit.
    """
    if query.shape[1] != support.shape[1] or len(support) != len(masks):
        raise ValueError(
            f"query {tuple(query.shape)}, support {tuple(support.shape)}, masks {tuple(masks.shape)}; [B, D, h, w], "
            "[S, D, h', w'] and [S, H, W] are needed"
        )
    soft = soft_masks(masks, (support.shape[2], support.shape[3]))
    cells = (support.float() * soft[:, None]).flatten(2)  # [S, D, M]
    asked = query.float().flatten(2)  # [B, D, N]
    norms = cells.norm(dim=1)[None, :, :, None] * asked.norm(dim=1)[:, None, None]  # [B, S, M, N]
    best = (torch.einsum("sdm,bdn->bsmn", cells, asked) / (norms + EPS)).amax(2)  # [B, S, N]
    low = best.amin(-1, keepdim=True)
    spread = (best - low) / (best.amax(-1, keepdim=True) - low + EPS)
    return spread.unflatten(-1, query.shape[2:])


def soft_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """[S, H, W] -> [S, h', w'] float32, bilinear with align_corners=True and no antialias, as PFENet shrinks masks."""
    return F.interpolate(masks[:, None].float(), size=size, mode="bilinear", align_corners=True)[:, 0]


def nearest_cosine(query: Tensor, cells: Tensor, *, chunk: int = 4096) -> Tensor:
    """The same maximum without masks and without min-max, so that it competes with prototypes.

    Args:
        query: [B, D, h, w]. cells: [M, D], the cells to be near to, for example all foreground cells of a class.
        chunk: cells compared at a time, for the memory's sake.

    Returns:
        [B, h, w] float32 in [-1, 1]; -1 where there are no cells.
    """
    asked = F.normalize(query.float().flatten(2), dim=1)  # [B, D, N]
    best = asked.new_full((asked.shape[0], asked.shape[2]), -1.0)
    for part in F.normalize(cells.float(), dim=-1).split(chunk):
        if len(part):
            best = torch.maximum(best, (part @ asked).amax(1))
    return best.unflatten(1, query.shape[2:])
