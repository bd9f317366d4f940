"""Guided filter with colour guidance: a linear model of the picture's colours fitted to the scores in every window.

Papers: He, Sun and Tang, "Guided Image Filtering", TPAMI 2013; He and Sun, "Fast Guided Filter", 2015 (``subsample``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.refine.neighbours import check_inputs, working_float

CHANNELS = 8  # filtered together: bounds the memory (a dozen maps a channel), not the result
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # the symmetric colour matrix, row by row


def guided_filter(
    scores: Tensor,
    image: Tensor,
    *,
    radius: int = 24,
    epsilon: float = 1e-4,
    subsample: int = 1,
    iterations: int = 1,
) -> Tensor:
    """Smooth the scores inside regions of one colour and move their edges to the picture's.

    Args:
        scores: [B, C, H, W] floating point.
        image: [B, 3, H, W] of the same size: uint8, or floating point RGB in [0, 1].
        radius: windows are (2 radius + 1)^2 pixels, clipped at the border.
        epsilon: variance of colour (colours in [0, 1]) below which a window counts as flat; larger values smooth more.
        subsample: fit the models on a picture this many times smaller, apply them at full size.
        iterations: how often to filter, each time with the same picture.

    Returns:
        [B, C, H, W] in the dtype of ``scores``, computed in float32 (float64 stays float64), clamped to the range that
        the channel had in the input.

    Raises:
        ValueError: shapes that do not fit, radius or subsample below 1, epsilon not positive, negative iterations.
    """
    check_inputs(scores, image, iterations, same_size=True)
    if radius < 1 or subsample < 1 or epsilon <= 0:
        raise ValueError(f"{radius=}, {subsample=}, {epsilon=}; allowed: >= 1, >= 1 and > 0, e.g. 24, 1 and 1e-4")
    maps = working_float(scores)
    guide = image.to(maps.dtype) / 255 if image.dtype == torch.uint8 else image.to(maps.dtype)
    guide = guide - guide.mean((-2, -1), keepdim=True)  # small numbers keep the box sums precise; the fit is the same
    coarse = (max(1, guide.shape[-2] // subsample), max(1, guide.shape[-1] // subsample))
    window = max(1, round(radius / subsample))
    small = _resize(guide, coarse)
    inverse = _inverse_covariance(small, window, epsilon)
    parts = [_filtered(part, guide, small, inverse, window, iterations) for part in torch.split(maps, CHANNELS, dim=1)]
    return torch.cat(parts, 1).to(scores.dtype)


def _filtered(maps: Tensor, guide: Tensor, small: Tensor, inverse: Tensor, window: int, iterations: int) -> Tensor:
    """Some channels [B, c, H, W] filtered; ``small`` is the guide at the size at which models are fitted."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    for _ in range(iterations):
        model = _fit(_resize(maps, small.shape[-2:]), small, inverse, window)
        slopes, offset = torch.split(torch.unflatten(_resize(model, guide.shape[-2:]), 1, (4, -1)), [3, 1], dim=1)
        maps = (slopes * guide.unsqueeze(2)).sum(1) + offset[:, 0]  # [B, 3, c, H, W] -> [B, c, H, W]
        maps = maps.clamp(low, high)
    return maps


def box_mean(maps: Tensor, radius: int) -> Tensor:
    """Mean over the (2 radius + 1)^2 window around each pixel, clipped at the border; [..., H, W] -> the same."""
    for axis in (-1, -2):
        size = maps.shape[axis]
        places = torch.arange(size, device=maps.device)
        ends = (places + radius).clamp(max=size - 1)
        starts = (places - radius).clamp(min=0)
        sums = maps.cumsum(axis)
        window = sums.index_select(axis, ends)
        if size > radius + 1:
            window.narrow(axis, radius + 1, size - radius - 1).sub_(sums.narrow(axis, 0, size - radius - 1))
        count = (ends - starts + 1).to(maps.dtype)
        maps = window.div_(count if axis == -1 else count.unsqueeze(-1))
    return maps


def _inverse_covariance(guide: Tensor, radius: int, epsilon: float) -> Tensor:
    """[B, 6, h, w] upper triangle of (colour covariance of the window + epsilon identity)^-1, by cofactors."""
    mean = box_mean(guide, radius)
    products = box_mean(torch.stack([guide[:, i] * guide[:, j] for i, j in PAIRS], 1), radius)
    planes = [products[:, n] - mean[:, i] * mean[:, j] + (epsilon if i == j else 0) for n, (i, j) in enumerate(PAIRS)]
    rr, rg, rb, gg, gb, bb = planes
    first = (gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb)
    determinant = rr * first[0] + rg * first[1] + rb * first[2]
    rest = (rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg)
    return torch.stack([*first, *rest], 1) / determinant.unsqueeze(1)


def _fit(maps: Tensor, guide: Tensor, inverse: Tensor, radius: int) -> Tensor:
    """Window-averaged models of maps [B, C, h, w]: [B, 4*C, h, w], slopes of the three colours, then the offset."""
    mean_guide, mean_maps = box_mean(guide, radius), box_mean(maps, radius)
    covariances = [
        box_mean(guide[:, i : i + 1] * maps, radius) - mean_guide[:, i : i + 1] * mean_maps for i in range(3)
    ]
    rows = ((0, 1, 2), (1, 3, 4), (2, 4, 5))  # where the rows of the symmetric inverse lie among its 6 planes
    slopes, offset = [], mean_maps
    for colour, row in enumerate(rows):
        first, second, third = (inverse[:, n, None] * covariances[i] for i, n in enumerate(row))
        slopes.append(first + second + third)
        offset = offset - slopes[-1] * mean_guide[:, colour : colour + 1]
    return box_mean(torch.cat([*slopes, offset], 1), radius)


def _resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, antialiased when it shrinks; untouched where the size is right already."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return F.interpolate(
        maps, size=tuple(size), mode="bilinear", align_corners=False, antialias=size[0] < maps.shape[-2]
    )
