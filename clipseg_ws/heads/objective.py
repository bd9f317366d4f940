"""All losses of a batch, by name, weighted as the configuration says."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.heads.base import HeadOutput
from clipseg_ws.heads.contrast import prototype_contrast, region_contrast
from clipseg_ws.heads.data import Batch
from clipseg_ws.heads.locality import boundary_loss, locally_adaptive_loss
from clipseg_ws.heads.losses import at_grid, confidence_weights, weighted_cross_entropy

TERMS = ("coarse", "region", "prototype", "boundary", "local")


def enlarge(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """[B, C, h, w] -> [B, C, H, W] float32, bilinear with half-pixel centres."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits.float()
    return F.interpolate(logits.float(), size=tuple(size), mode="bilinear", align_corners=False)


def batch_weights(batch: Batch, config: Any) -> Tensor:
    """How much every pixel counts, [B, H, W], see ``confidence_weights``; background times ``config.background``."""
    weights = confidence_weights(
        batch.labels, batch.confidence, mode=config.weighting, threshold=config.threshold, power=config.power
    )
    return torch.where(batch.labels == 0, config.background * weights, weights)


def objective(
    output: HeadOutput, batch: Batch, config: Any, *, total: Tensor | None = None, share: float = 1.0
) -> dict[str, Tensor]:
    """Losses by name, each already times its weight.

    Args:
        output: of the head on ``batch``. config: a ``training.TrainConfig``.
        total: Σ of the weights that the cross-entropy is divided by; of all parts of a step. None: this part's own.
        share: of the step's pictures that are in this part; the other terms count so much.
    """
    weights = batch_weights(batch, config)
    logits = enlarge(output.logits, batch.labels.shape[-2:])
    losses = {"ce": weighted_cross_entropy(logits, batch.labels, weights, normaliser=total)}
    if output.coarse is not None and config.coarse:
        coarse = enlarge(output.coarse, batch.labels.shape[-2:])
        losses["coarse"] = config.coarse * weighted_cross_entropy(coarse, batch.labels, weights, normaliser=total)
    if config.boundary:
        losses["boundary"] = share * config.boundary * boundary_loss(logits, batch.labels, weights)
    if config.local:
        losses["local"] = share * config.local * locally_adaptive_loss(logits, batch.labels, weights)
    if config.region or config.prototype:
        grid = (output.embedding.shape[-2], output.embedding.shape[-1])
        labels, small = at_grid(batch.labels, grid), at_grid(weights, grid)
        for name, term in (("region", region_contrast), ("prototype", prototype_contrast)):
            if getattr(config, name):
                losses[name] = share * getattr(config, name) * term(output.embedding, labels, small, logits.shape[1])
    return losses
