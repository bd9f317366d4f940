"""Terms that look at a pixel's neighbours: where two labels meet, and what the neighbours say together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def boundary_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Boundaries lie between two labels: for every pair of 4-neighbours, do they differ?

    The probability that i and j differ is 1 - Σ_c p_c(i) p_c(j). Balanced binary cross-entropy: half of the mean over
    the pairs that differ in ``labels`` and half of the mean over those that do not, because boundary pixels are few
    (the idea of boundary exploration, Chen et al., ECCV 2020). A pair counts by the product of its weights.

    Args:
        logits: [B, 1+C, H, W]. labels: [B, H, W] int64. weights: [B, H, W], 0 where the label is 255.

    Returns:
        Scalar float32; a half without pairs counts 0.
    """
    p = logits.float().softmax(1)
    total = p.new_zeros(())
    pairs = []
    for dim in (1, 2):
        size = labels.shape[dim] - 1
        a, b = p.narrow(dim + 1, 0, size), p.narrow(dim + 1, 1, size)
        alike = (a * b).sum(1).clamp(1e-6, 1 - 1e-6)
        weight = weights.narrow(dim, 0, size) * weights.narrow(dim, 1, size)
        differ = labels.narrow(dim, 0, size) != labels.narrow(dim, 1, size)
        pairs.append((alike.flatten(), weight.flatten(), differ.flatten()))
    alike, weight, differ = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    for chosen, losses in ((differ, -(1 - alike).log()), (~differ, -alike.log())):
        mass = (weight * chosen).sum()
        total = total + 0.5 * (losses * weight * chosen).sum() / mass.clamp_min(1e-6)
    return total


def locally_adaptive_loss(logits: Tensor, labels: Tensor, weights: Tensor, *, window: int = 3) -> Tensor:
    """Locally adaptive loss (Guo et al., 2018, arXiv 1802.08290): cross-entropy of the neighbours' merged distribution.

    The distribution at a pixel is the mean over those pixels of the window around it that have its label and a weight
    above 0 (itself included); the loss is -log of its entry at the label, weighted mean over the pixels.

    Args:
        logits: [B, 1+C, H, W]. labels: [B, H, W] int64. weights: [B, H, W]. window: odd side.

    Raises:
        ValueError: an even window.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window={window}; an odd number of at least 1 is needed, for example 3")
    count = logits.shape[1]
    counted = (weights > 0) & (labels < count)
    hot = F.one_hot(labels.clamp(0, count - 1), count).movedim(-1, 1).float() * counted[:, None]  # [B, 1+C, H, W]
    p = logits.float().softmax(1)
    area = window * window
    # only a pixel's own channel matters: p summed over equal neighbours, and their number
    merged = F.avg_pool2d(p * hot, window, 1, window // 2) * area
    number = F.avg_pool2d(hot, window, 1, window // 2) * area
    share = (merged * hot).sum(1) / (number * hot).sum(1).clamp_min(1)
    losses = -share.clamp_min(1e-6).log()
    weight = weights * counted
    return (losses * weight).sum() / weight.sum().clamp_min(1e-6)
