"""The smaller picture that a refiner may work on: its size, and there and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def working_size(size: Sequence[int], max_side: int | None) -> tuple[int, int] | None:
    """(h, w) with the longer side at ``max_side``; None where (h, w) is small enough. Raises ValueError below 1."""
    if max_side is not None and max_side < 1:
        raise ValueError(f"max_side={max_side}; allowed: None or a number of pixels >= 1, e.g. 512")
    longest = max(size)
    if max_side is None or longest <= max_side:
        return None
    height, width = (max(1, round(side * max_side / longest)) for side in size)
    return height, width


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, antialiased, in at least float32; a uint8 picture becomes RGB in [0, 1]."""
    if maps.dtype == torch.uint8:
        maps = maps.float() / 255
    maps = maps if maps.dtype == torch.float64 else maps.float()
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False, antialias=True)
