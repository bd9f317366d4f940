"""Cross-entropies on masks whose pixels do not count alike, and what all losses share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.structures import IGNORE


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor, *, normaliser: Tensor | None = None
) -> Tensor:
    """Σ w·ce / Σ w over the pixels.

    Args:
        logits: [B, 1+C, H, W]. labels: [B, H, W] int64 in 0..C or 255. weights: [B, H, W] non-negative.
        normaliser: instead of Σ w (of several processes together, say).

    Returns:
        Scalar float32; 0 where nothing counts.

    Raises:
        ValueError: shapes that do not fit, or a label above C that is not 255.
    """
    check_labels(logits, labels)
    masked = labels.masked_fill(weights <= 0, IGNORE)
    losses = F.cross_entropy(logits.float(), masked, ignore_index=IGNORE, reduction="none")
    total = weights.sum() if normaliser is None else normaliser
    return (losses * weights).sum() / total.clamp_min(1e-6)


def soft_cross_entropy(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy to distributions: logits and target [B, K, H, W], weights [B, H, W] or None -> scalar float32."""
    if logits.shape != target.shape:
        raise ValueError(f"logits are {tuple(logits.shape)}, the target {tuple(target.shape)}; equal shapes are needed")
    losses = -(target * logits.float().log_softmax(1)).sum(1)
    return losses.mean() if weights is None else (losses * weights).sum() / weights.sum().clamp_min(1e-6)


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless ``labels`` [B, H, W] fit ``logits`` [B, 1+C, H, W].

    Their values are looked at on the CPU only: whoever moves them to a GPU does it before, see ``check_range``.
    """
    if logits.ndim != 4 or labels.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(
            f"logits are {tuple(logits.shape)}, labels {tuple(labels.shape)}; [B, 1+C, H, W] and [B, H, W] are needed"
        )
    if labels.device.type == "cpu":
        check_range(labels, logits.shape[1])


def check_range(labels: Tensor, count: int) -> None:
    """Raise ValueError for labels that are none of 0 to ``count - 1`` and not 255."""
    wrong = (labels >= count) & (labels != IGNORE)
    if bool(wrong.any()) or bool((labels < 0).any()):
        raise ValueError(
            f"a target holds label {int(labels[wrong].max()) if wrong.any() else int(labels.min())}, the head answers "
            f"{count} labels (0 to {count - 1}; 255 is ignored): wrong number of classes"
        )


def at_grid(labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Labels or confidence [B, H, W] at the patches' centres: [B, h, w]."""
    return F.interpolate(labels[:, None].float(), size=grid, mode="nearest-exact")[:, 0].to(labels.dtype)


def unit(x: Tensor) -> Tensor:
    """Unit vectors along dim 1, float32."""
    return F.normalize(x.float(), dim=1)


def no_loss(x: Tensor) -> Tensor:
    """0 that still hangs on ``x``, so that a backward pass finds its way."""
    return torch.nan_to_num(x.float()).sum() * 0
