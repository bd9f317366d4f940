"""Large pictures: refined and decided at a working size, then enlarged by strips: memory stays bounded."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.stages.labels import label, spread_labels

STRIP_CELLS = 2**24  # channels times pixels of a strip: 64 MiB in float32


def working_size(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """(h, w) of at most about ``max_pixels`` pixels in the shape of ``size``; ``size`` where it is small enough, or
    with 0."""
    height, width = size
    if not max_pixels or height * width <= max_pixels:
        return size
    scale = math.sqrt(max_pixels / (height * width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def enlarged_labels(scores: Tensor, size: tuple[int, int], classes: Tensor) -> tuple[Tensor, Tensor]:
    """Scores [B, 1+K, h, w] enlarged (bilinear, half-pixel centres) to ``size`` and decided, strip by strip.

    Args:
        classes: [B, K] as ``labels.spread_labels`` takes them.

    Returns:
        labels [B, H, W] int32 in the whole vocabulary and confidence [B, H, W] float32, as ``labels.label`` and
        ``spread_labels`` give them for the enlarged scores.
    """
    height, width = size
    scores = F.interpolate(scores.float(), size=(scores.shape[2], width), mode="bilinear", align_corners=False)
    places = ((torch.arange(height, device=scores.device) + 0.5) * (scores.shape[2] / height) - 0.5).clamp_min(0)
    above = places.long().clamp_max(scores.shape[2] - 1)
    below, share = (above + 1).clamp_max(scores.shape[2] - 1), places - above
    labels = torch.empty(len(scores), height, width, dtype=torch.int32, device=scores.device)
    confidence = torch.empty(len(scores), height, width, device=scores.device)
    rows = max(1, STRIP_CELLS // (scores.shape[0] * scores.shape[1] * width))
    for start in range(0, height, rows):
        part = slice(start, min(height, start + rows))
        strip = torch.lerp(scores[:, :, above[part]], scores[:, :, below[part]], share[part][:, None])
        own, confidence[:, part] = label(strip)
        labels[:, part] = spread_labels(own, classes).int()
    return labels, confidence
