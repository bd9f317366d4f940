"""All losses of a batch, by name, weighted as the configuration says."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.heads import LOSSES
from clipseg_ws.heads.base import HeadOutput
from clipseg_ws.heads.data import Batch
from clipseg_ws.heads.losses import at_grid
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.heads.weights import confidence_weights


def enlarge(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """[B, C, h, w] -> [B, C, H, W] float32, bilinear with half-pixel centres."""
    if tuple(logits.shape[-2:]) == tuple(size):
        return logits.float()
    return F.interpolate(logits.float(), size=tuple(size), mode="bilinear", align_corners=False)


def batch_weights(batch: Batch, config: TrainConfig) -> Tensor:
    """How much every pixel counts, [B, H, W], see ``confidence_weights``; background times ``config.background``."""
    parameters = config.weighting_parameters()
    weights = confidence_weights(batch.labels, batch.confidence, mode=config.weighting, **parameters)
    return torch.where(batch.labels == 0, config.background * weights, weights)


def objective(
    output: HeadOutput, batch: Batch, config: TrainConfig, *, total: Tensor | None = None, share: float = 1.0
) -> dict[str, Tensor]:
    """Losses by name, each already times its weight: what is computed at the targets' size first, then on patches.

    Args:
        output: of the head on ``batch``.
        total: Σ of the weights that the cross-entropy is divided by; of all parts of a step. None: this part's own.
        share: of the step's pictures that are in this part; losses that are not divided by ``total`` count so much.
    """
    weights = batch_weights(batch, config)
    entries = [entry for name, entry in LOSSES.items() if config.weight(name)]
    on_pixels = [entry for entry in entries if entry.about["on"] != "embedding"]
    on_patches = [entry for entry in entries if entry.about["on"] == "embedding"]
    scores: dict[str, Tensor] = {}  # at the targets' size, made once
    losses: dict[str, Tensor] = {}
    for entry in on_pixels:
        place = entry.about["on"]
        if (small := getattr(output, place)) is None:
            continue
        if place not in scores:
            scores[place] = enlarge(small, batch.labels.shape[-2:])
        whole = {"normaliser": total} if entry.about.get("whole") else {}
        value: Tensor = entry.load()(scores[place], batch.labels, weights, **whole)
        losses[entry.name] = (1.0 if whole else share) * config.weight(entry.name) * value
    if on_patches:
        grid = (output.embedding.shape[-2], output.embedding.shape[-1])
        labels, small = at_grid(batch.labels, grid), at_grid(weights, grid)
        for entry in on_patches:
            value = entry.load()(output.embedding, labels, small, output.logits.shape[1])
            losses[entry.name] = share * config.weight(entry.name) * value
    return losses
