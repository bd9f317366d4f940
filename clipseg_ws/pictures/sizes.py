"""Sizes in pixels and patches: of what the network sees, and of maps that are enlarged. torch is imported on call."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def target_size(
    width: int,
    height: int,
    patch: int,
    short_side: int | None = None,
    long_side: int | None = None,
    max_patches: int | None = None,
) -> tuple[int, int]:
    """Network size (H', W') in pixels for a picture: multiples of ``patch``, each side rounded up (CLIP-ES).

    Args:
        short_side: scale, up or down, until the shorter side has this length; None keeps the original size.
        long_side: upper limit of the longer side before rounding up; it only ever shrinks.
        max_patches: upper limit of rows x columns of patches; a larger grid is shrunk, aspect kept (rounded down).
    """
    for name, value in (("width", width), ("height", height), ("patch", patch), ("short_side", short_side),
                        ("long_side", long_side), ("max_patches", max_patches)):  # fmt: skip
        if value is not None and value < 1:
            raise ValueError(f"{name}={value} must be at least 1, e.g. target_size(500, 375, 16, short_side=336)")
    scale = 1.0 if short_side is None else short_side / min(width, height)
    if long_side is not None:
        scale = min(scale, long_side / max(width, height))
    # first whole pixels (as mmcv rounds), then whole patches
    columns, rows = (math.ceil(max(1, int(side * scale + 0.5)) / patch) for side in (width, height))
    if max_patches is not None and rows * columns > max_patches:
        scale = math.sqrt(max_patches / (width * height))  # patches per pixel
        rows, columns = min(rows, max(1, int(height * scale))), min(columns, max(1, int(width * scale)))
        rows, columns = min(rows, max_patches // columns or 1), min(columns, max_patches)
    return rows * patch, columns * patch


def resize_maps(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[B,C,h,w] -> [B,C,H,W], bilinear with half-pixel centres, not antialiased; C may be 0."""
    if 0 in maps.shape[:2]:
        return maps.new_zeros(*maps.shape[:2], *size)
    from torch.nn.functional import interpolate

    return interpolate(maps, size=size, mode="bilinear", align_corners=False)
