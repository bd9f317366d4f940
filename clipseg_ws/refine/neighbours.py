"""What the refiners share: checks of their inputs, dilated 8-neighbourhoods as shifted slices, and the averaging."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def neighbour_offsets(dilations: Sequence[int]) -> list[tuple[int, int]]:
    """(dy, dx) of the 8 neighbours at each dilation, dilation by dilation, row by row, without the centre.

    Raises:
        ValueError: no dilation, or one below 1.
    """
    if len(dilations) == 0 or any(d < 1 for d in dilations):
        raise ValueError(f"dilations={tuple(dilations)}; allowed: at least one, each >= 1 pixel, e.g. (8, 16)")
    steps = (-1, 0, 1)
    return [(y * d, x * d) for d in dilations for y in steps for x in steps if (y, x) != (0, 0)]


def neighbour_views(maps: Tensor, offsets: Sequence[tuple[int, int]]) -> list[Tensor]:
    """For each offset the map [B, C, H, W] seen from there: views into one replicate-padded copy, nothing unfolded."""
    height, width = maps.shape[-2:]
    margin = max(max(abs(dy), abs(dx)) for dy, dx in offsets)
    padded = F.pad(maps, (margin,) * 4, mode="replicate")
    return [padded[..., margin + dy : margin + dy + height, margin + dx : margin + dx + width] for dy, dx in offsets]


def squared_deviations(samples: Sequence[Tensor]) -> Tensor:
    """Sum over the samples of the squared distance to their mean, per element; two passes, so flat zones give 0."""
    mean = samples[0].clone()
    for sample in samples[1:]:
        mean += sample
    mean /= len(samples)
    total = torch.zeros_like(mean)
    for sample in samples:
        difference = sample - mean
        total.addcmul_(difference, difference)
    return total


def diffuse(maps: Tensor, weights: Tensor, offsets: Sequence[tuple[int, int]], iterations: int) -> Tensor:
    """Replace ``iterations`` times each pixel of ``maps`` [B, C, H, W] by the weighted sum over its neighbours.

    Args:
        maps: [B, C, H, W] floating point; not changed.
        weights: [B, n, H, W], one plane per offset, in the dtype of ``maps``.
        offsets: n pairs (dy, dx); replicate padding outside the picture.
        iterations: how often; 0 returns a copy.
    """
    maps = maps if iterations else maps.clone()
    for _ in range(iterations):
        fresh = torch.zeros_like(maps)
        for index, view in enumerate(neighbour_views(maps, offsets)):
            fresh.addcmul_(weights[:, index : index + 1], view)
        maps = fresh
    return maps


def working_float(scores: Tensor) -> Tensor:
    """Scores in the dtype refiners compute in: float64 stays, everything else becomes float32."""
    return scores if scores.dtype == torch.float64 else scores.float()


def check_inputs(scores: Tensor, image: Tensor, iterations: int = 1, *, same_size: bool = False) -> None:
    """Raise ValueError unless scores are floating [B, C, h, w], the image is [B, 3, H, W] and iterations >= 0.

    ``same_size`` also asks for h = H and w = W.
    """
    shapes = f"scores {tuple(scores.shape)} and image {tuple(image.shape)}"
    if scores.ndim != 4 or image.ndim != 4 or image.shape[1] != 3 or scores.shape[0] != image.shape[0]:
        raise ValueError(
            f"{shapes} do not fit; allowed: [B, C, H, W] and [B, 3, H, W] with the same B, "
            "e.g. [2, 21, 384, 512] and [2, 3, 384, 512]"
        )
    if same_size and scores.shape[-2:] != image.shape[-2:]:
        raise ValueError(f"{shapes} differ in size; resize the scores first, e.g. torch.nn.functional.interpolate")
    if not scores.is_floating_point():
        raise ValueError(f"scores have dtype {scores.dtype}; allowed: floating point, e.g. torch.float32")
    if iterations < 0:
        raise ValueError(f"iterations={iterations}; allowed: 0, 1, 2, ..., e.g. 10")
