"""Mean of the scores inside SLIC superpixels (extra ``[superpixels]``), which ``regions.superpixels`` cuts."""

from __future__ import annotations

import torch
from torch import Tensor

from clipseg_ws.refine.neighbours import check_inputs, working_float
from clipseg_ws.regions.superpixels import slic_segments


def superpixel_mean(
    scores: Tensor, image: Tensor, *, side: float = 16.0, compactness: float = 10.0, blend: float = 1.0
) -> Tensor:
    """Replace every pixel's scores by the mean over its superpixel.

    Args:
        scores: [B, C, H, W] floating point.
        image: [B, 3, H, W] of the same size: uint8, or floating point RGB in [0, 1].
        side, compactness: of the superpixels, see ``slic_segments``.
        blend: share of the mean in the result, the rest is the score itself.

    Returns:
        [B, C, H, W] in the dtype of ``scores``, computed in float32 (float64 stays float64); channels that sum to one
        still do.

    Raises:
        ImportError: scikit-image is not installed.
        ValueError: shapes that do not fit, side below 1 pixel, compactness not positive, blend outside [0, 1].
    """
    check_inputs(scores, image, same_size=True)
    if not 0 <= blend <= 1:
        raise ValueError(f"blend={blend}; allowed: 0 to 1, e.g. 1.0")
    segments = slic_segments(image, side=side, compactness=compactness)
    maps = working_float(scores)
    means = torch.stack([_segment_means(one, labels) for one, labels in zip(maps, segments, strict=True)])
    return torch.lerp(maps, means, blend).to(scores.dtype)


def _segment_means(maps: Tensor, segments: Tensor) -> Tensor:
    """[C, H, W] and segment numbers [H, W] -> the mean over each pixel's segment, [C, H, W]."""
    flat, numbers = maps.flatten(1), segments.flatten()  # [C, H*W] and [H*W]
    count = int(numbers.max()) + 1
    sums = flat.new_zeros(flat.shape[0], count).index_add_(1, numbers, flat)
    sizes = torch.bincount(numbers, minlength=count).clamp(min=1)
    return (sums / sizes)[:, numbers].view_as(maps)
