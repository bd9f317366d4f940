"""Pixel-adaptive refinement with a distance term, as WeCLIP uses it in place of a CRF.

Papers: Ru et al., "Learning Affinity from Attention" (AFA), CVPR 2022 (PAR); Zhang et al., "Frozen CLIP: A Strong
Backbone for Weakly Supervised Semantic Segmentation" (WeCLIP), CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
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
from clipseg_ws.refine.working import resized, working_size

EPSILON = 1e-8
WIDTH = 0.3  # of the Gaussians, in local standard deviations
POSITION_WEIGHT = 0.01


def par(
    scores: Tensor,
    image: Tensor,
    *,
    iterations: int = 20,
    dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
    normalise: bool = True,
    max_side: int = 0,
) -> Tensor:
    """Average every pixel's scores ``iterations`` times with its neighbours, weighted by colour and distance.

    Args:
        scores: [B, C, h, w] floating point; the result has this size.
        image: [B, 3, H, W] uint8 or floating point of any scaling; resized to the scores (bilinear, corners aligned).
        iterations: how often to average.
        dilations: distances in pixels of the 8 neighbours.
        normalise: divide the published weights, which sum to 1.01, by their sum: scores in [0, 1] stay in [0, 1], the
            arg-max is the same. False keeps them, so that the scores grow by 1.01 ** iterations.
        max_side: work on a picture whose longer side has at most so many pixels, so that the neighbours reach further,
            and enlarge the result; 0: full size.

    Returns:
        [B, C, h, w] in the dtype of ``scores``, computed in float32 (float64 stays float64).

    Raises:
        ValueError: as for ``pamr``; a negative ``max_side``.
    """
    check_inputs(scores, image, iterations)
    small = working_size(scores.shape[-2:], max_side or None)
    if small is not None:
        parts = resized(scores, small), resized(image, small)
        found = par(*parts, iterations=iterations, dilations=dilations, normalise=normalise)
        return resized(found, scores.shape[-2:]).to(scores.dtype)
    offsets = neighbour_offsets(dilations)
    maps = working_float(scores)
    picture = image.to(maps.dtype)
    if picture.shape[-2:] != maps.shape[-2:]:
        picture = F.interpolate(picture, size=maps.shape[-2:], mode="bilinear", align_corners=True)
    weights = par_weights(picture, dilations)
    if normalise:
        weights.div_(1 + POSITION_WEIGHT)
    return diffuse(maps, weights, offsets, iterations).to(scores.dtype)


def par_weights(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Weights [B, 8*len(dilations), H, W] of the neighbours, summing to 1.01 over axis 1, from a float image [B,3,H,W].

    softmax of the mean over channels of -(|difference| / std / 0.3)^2, std unbiased over the neighbours alone, plus
    0.01 softmax of -(distance / std of the distances / 0.3)^2, the same for all pixels.
    """
    offsets = neighbour_offsets(dilations)
    views = neighbour_views(image, offsets)
    std = (squared_deviations(views) / (len(views) - 1)).sqrt()
    scale = 1 / ((std + EPSILON) * WIDTH)
    logits = image.new_empty(image.shape[0], len(views), *image.shape[-2:])
    for index, view in enumerate(views):
        logits[:, index] = -((view - image) * scale).square_().mean(1)
    distance = torch.tensor(offsets, dtype=image.dtype, device=image.device).norm(dim=1)  # [n]
    near = (-(distance / (distance.std() + EPSILON) / WIDTH).square()).softmax(0)
    return logits.softmax(1).add_(POSITION_WEIGHT * near.view(1, -1, 1, 1))
