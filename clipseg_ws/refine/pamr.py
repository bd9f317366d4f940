"""Pixel-adaptive mask refinement: repeated averaging with neighbours of similar colour.

Paper: Araslanov and Roth, "Single-Stage Semantic Segmentation from Image Labels", CVPR 2020 (PAMR).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.refine.neighbours import (
    check_inputs,
    diffuse,
    neighbour_offsets,
    neighbour_views,
    squared_deviations,
    working_float,
)

EPSILON = 1e-8
STD_FACTOR = 0.1


def pamr(scores: Tensor, image: Tensor, *, iterations: int = 10, dilations: Sequence[int] = (8, 16)) -> Tensor:
    """Average every pixel's scores ``iterations`` times with its neighbours, weighted by colour similarity.

    The pixel itself has no weight. The result depends on colour differences relative to their local standard
    deviation, so any scaling of the image's channels (bytes, [0, 1], CLIP-normalised) gives the same answer.

    Args:
        scores: [B, C, h, w] floating point; resized to the image (bilinear, corners aligned) where the sizes differ.
        image: [B, 3, H, W] uint8 or floating point, on the same device.
        iterations: how often to average; 0 only resizes.
        dilations: distances in pixels of the 8 neighbours; more distances cost proportionally more.

    Returns:
        [B, C, H, W] in the dtype of ``scores``, computed in float32 (float64 stays float64); each value lies between
        the smallest and the largest value of its channel; channels that sum to one per pixel still do.

    Raises:
        ValueError: shapes that do not fit, no or non-positive dilations, negative iterations.
    """
    check_inputs(scores, image, iterations)
    offsets = neighbour_offsets(dilations)
    maps = working_float(scores)
    if maps.shape[-2:] != image.shape[-2:]:
        maps = F.interpolate(maps, size=image.shape[-2:], mode="bilinear", align_corners=True)
    weights = pamr_weights(image.to(maps.dtype), dilations)
    return diffuse(maps, weights, offsets, iterations).to(scores.dtype)


def pamr_weights(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Weights [B, 8*len(dilations), H, W] of the neighbours, summing to one over axis 1, from a float image [B,3,H,W].

    Order: dilation by dilation, row by row. Logit of a neighbour: mean over channels of -|difference| / (1e-8 +
    0.1 std), std = unbiased standard deviation over the neighbours and, once per dilation, the pixel itself.
    """
    views = neighbour_views(image, neighbour_offsets(dilations))
    count = len(views) + len(dilations)
    deviations = squared_deviations([image] * len(dilations) + views)
    slope = -1 / (EPSILON + STD_FACTOR * (deviations / (count - 1)).sqrt()) / image.shape[1]
    weights = image.new_empty(image.shape[0], len(views), *image.shape[-2:])
    for index, view in enumerate(views):
        weights[:, index] = ((view - image).abs_() * slope).sum(1)
    # No maximum is subtracted: the pixel is among the samples of std, which bounds the largest logit from below (-32).
    weights.exp_()
    return weights.div_(weights.sum(1, keepdim=True))
