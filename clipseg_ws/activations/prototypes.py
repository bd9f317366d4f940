"""Prototypes of examples: masked average pooling, matching by cosine, N ways, K shots, votes.

* SG-One (Zhang et al., IEEE Trans. Cybernetics 2020, arXiv 1810.09091): masked average pooling, cosine guidance.
* PANet (Wang et al., ICCV 2019, arXiv 1908.06391): a background prototype, 20 x cosine, mean over the shots.
* HSNet (Min et al., ICCV 2021, arXiv 2104.01538): one prediction a shot, votes divided by the largest.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5  # added to a mask's area, as in PANet: an empty mask gives the zero vector


def pooling_weights(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much every cell of a grid counts in a mask: [S, H, W] -> [S, h, w] float32, the same sum as the mask.

    The adjoint of enlarging [h, w] bilinearly to [H, W] (half-pixel centres): the sum of the enlarged features over
    the mask's pixels is the sum of the features over the cells with these weights, without enlarging anything.
    """
    rows, columns = (_resize_matrix(n, size, masks.device) for n, size in zip(grid, masks.shape[-2:], strict=True))
    return rows @ masks.float() @ columns.t()  # [h, H] [S, H, W] [W, w]


def masked_average_pooling(features: Tensor, masks: Tensor) -> Tensor:
    """Mean feature inside each mask: one vector a support.

    Args:
        features: [S, D, h, w]. masks: [S, H, W], 0/1 or shares, of any size: the features are enlarged to it
            bilinearly (exactly, though never in memory). A mask of 0 and 255 has to be made 0/1 first.

    Returns:
        [S, D], dtype of the features; zero for an empty mask.

    Raises:
        ValueError: other shapes.
    """
    if features.ndim != 4 or masks.ndim != 3 or len(features) != len(masks):
        raise ValueError(
            f"features have shape {tuple(features.shape)}, masks {tuple(masks.shape)}; [S, D, h, w] and [S, H, W] are "
            "needed, for example [5, 768, 24, 32] and [5, 384, 512]"
        )
    weights = pooling_weights(masks, (features.shape[2], features.shape[3]))
    total = torch.einsum("sdhw,shw->sd", features.float(), weights)
    return (total / (weights.sum((1, 2)) + EPS)[:, None]).to(features.dtype)


def class_prototypes(vectors: Tensor, ways: Tensor, count: int, weights: Tensor | None = None) -> Tensor:
    """Mean vector of each class: [S, D], ways [S] int64 in 0..count-1 -> [count, D] (zero for a class without shots).

    ``weights`` [S] or [B, S] non-negative make it a weighted mean, with a batch axis [B, count, D] for the latter; a
    class whose weights are all 0 takes the plain mean.
    """
    member = F.one_hot(ways, count).to(vectors.dtype)  # [S, K]
    if weights is not None:
        weighted = member * weights.to(vectors.dtype).unsqueeze(-1)  # [(B,) S, K]
        member = torch.where(weighted.sum(-2, keepdim=True) > 0, weighted, member)
    share = member / member.sum(-2, keepdim=True).clamp_min(1e-12)
    return share.transpose(-2, -1) @ vectors


def background_prototype(vectors: Tensor, ways: Tensor, count: int) -> Tensor:
    """[S, D] vectors of the backgrounds -> [1, D]: mean over the shots of each class, then over the classes."""
    present = torch.bincount(ways, minlength=count) > 0
    return class_prototypes(vectors, ways, count)[present].mean(0, keepdim=True)


def cosine(features: Tensor, prototypes: Tensor) -> Tensor:
    """Cosine [B, P, h, w] in [-1, 1], float32, of features [B, D, h, w] with prototypes [P, D] or [B, P, D]."""
    cells = F.normalize(features.float().flatten(2), dim=1)  # [B, D, N]
    return torch.unflatten(F.normalize(prototypes.float(), dim=-1) @ cells, 2, features.shape[2:])


def match(features: Tensor, prototypes: Tensor, *, scale: float = 20.0) -> Tensor:
    """scale x cosine of every cell with every prototype.

    Args:
        features: [B, D, h, w]. prototypes: [P, D], or [B, P, D] for each image its own.
        scale: 20 in PANet.

    Returns:
        [B, P, h, w] float32; a zero prototype scores 0.

    Raises:
        ValueError: the widths D differ.
    """
    if features.ndim != 4 or prototypes.ndim not in (2, 3) or features.shape[1] != prototypes.shape[-1]:
        raise ValueError(
            f"features have shape {tuple(features.shape)}, prototypes {tuple(prototypes.shape)}; [B, D, h, w] and "
            "[P, D] or [B, P, D] with the same D are needed"
        )
    return scale * cosine(features, prototypes)


def vote(logits: Tensor) -> tuple[Tensor, Tensor]:
    """HSNet's vote over K shots.

    Args:
        logits: [..., S, 2, H, W], background first, one prediction a shot.

    Returns:
        votes [..., H, W] int64 in 0..S, and their share of the largest number that occurs in the image (at least 1),
        float32 in [0, 1]; HSNet's mask is share >= 0.5. With one shot the share is that shot's mask.
    """
    votes = logits.argmax(-3).sum(-3)  # [..., S, H, W] -> [..., H, W]
    return votes, votes / votes.amax((-2, -1), keepdim=True).clamp_min(1)


def _resize_matrix(length: int, size: int, device: torch.device) -> Tensor:
    """[length, size] float32: column j holds the weights of pixel j's bilinear interpolation."""
    unit = torch.eye(length, device=device)[:, None]  # [h, 1, h]: one signal a cell
    return F.interpolate(unit, size=size, mode="linear", align_corners=False)[:, 0]
