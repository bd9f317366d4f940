"""How a table of positions follows the patch grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.backbones.protocol import POSITION_INTERPOLATIONS

_WAYS = {  # mode, antialiased; the last two are other libraries' own, for which "bicubic" stands there
    "bicubic": ("bicubic", True),
    "bilinear": ("bilinear", False),
    "bicubic-plain": ("bicubic", False),
    "bilinear-smooth": ("bilinear", True),
}


def check_interpolation(value: str) -> str:
    """The same. Raises ValueError for an unknown position interpolation."""
    if value not in POSITION_INTERPOLATIONS:
        choices = ", ".join(POSITION_INTERPOLATIONS)
        raise ValueError(f"position_interpolation={value!r} is unknown; choose one of {choices}, for example 'bicubic'")
    return value


def positions(table: Tensor, native: tuple[int, int], grid: tuple[int, int], how: str, first: int = 1) -> Tensor:
    """[first+N0, D] table of the native grid -> [first+N, D] for ``grid``; float32 where it was interpolated.

    The first entry, the class token's, is kept. At the native grid every way is the identity.

    Args:
        first: entries in front of the patches: 1, or 0 where the table has none for a class token.
        how: "bicubic" antialiased to the size (open_clip's and timm's own), "bilinear" to the size (CLIP-ES),
            "bicubic-offset" without antialias at scale (h + 0.1) / h0 (the dense family).
    """
    if grid == native:
        return table
    h0, w0 = native
    image = table[first:].float().reshape(1, h0, w0, -1).permute(0, 3, 1, 2)  # [N0, D] -> [1, D, h0, w0]
    if how == "bicubic-offset":
        scale = [(grid[0] + 0.1) / h0, (grid[1] + 0.1) / w0]
        image = F.interpolate(image, scale_factor=scale, mode="bicubic", align_corners=False)
    else:
        mode, antialias = _WAYS[how]
        image = F.interpolate(image, size=grid, mode=mode, antialias=antialias, align_corners=False)
    rows = image.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1)  # [1, D, h, w] -> [N, D]
    return torch.cat([table[:first].float(), rows]) if first else rows
