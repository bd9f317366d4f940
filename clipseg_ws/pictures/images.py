"""Whatever a user holds as an RGB picture, and a picture as the pixels that a network takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from clipseg_ws.pictures.reading import ImageError, read_image, reason, to_rgb
from clipseg_ws.pictures.sizes import target_size
from clipseg_ws.pictures.sources import Source

INTERPOLATION = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def to_image(obj: Any) -> Image.Image:
    """RGB picture from whatever a user holds: path, URL or Source (read), PIL image, uint8 array [H,W,3] or [H,W].

    A PIL image or an array is taken in its own frame: no EXIF rotation, so that masks fit what was handed in.

    Raises:
        ImageError: an array of another shape or dtype, another type, or a picture that cannot be read.
    """
    if isinstance(obj, (str, Path, Source)):
        return read_image(obj)
    if isinstance(obj, Image.Image):
        try:
            return to_rgb(obj)
        except Exception as error:  # a lazily opened file is decoded here
            raise ImageError(f"cannot use the {obj.mode} picture of size {obj.size}: {reason(error)}") from error
    allowed = "allowed: a path or URL, a PIL image, a numpy uint8 array [H,W,3] (RGB) or [H,W] (grey)"
    if isinstance(obj, torch.Tensor):
        raise ImageError(f"got a tensor {tuple(obj.shape)}; {allowed}, e.g. x.permute(1, 2, 0).cpu().numpy()")
    if not isinstance(obj, np.ndarray):
        raise ImageError(f"got {type(obj).__name__}; {allowed}")
    if obj.dtype != np.uint8:
        raise ImageError(f"got an array of {obj.dtype}; {allowed}, e.g. (x * 255).round().astype('uint8') for [0, 1]")
    if not (obj.ndim == 2 or (obj.ndim == 3 and obj.shape[2] == 3)) or 0 in obj.shape:
        raise ImageError(f"got an array of shape {list(obj.shape)}; {allowed}")
    return Image.fromarray(np.ascontiguousarray(obj)).convert("RGB")


def to_pixels(
    image: Image.Image,
    *,
    patch_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    short_side: int | None = None,
    long_side: int | None = None,
    max_patches: int | None = None,
    interpolation: str = "bicubic",
) -> torch.Tensor:
    """[3, H', W'] float32 network input of an RGB picture: resized to ``target_size``, [0,1], normalised.

    Resizing is Pillow's, antialiased, on 8-bit values (CLIP-ES, Lin et al., CVPR 2023).
    """
    if interpolation not in INTERPOLATION:
        raise ValueError(f"interpolation {interpolation!r} is not one of {', '.join(INTERPOLATION)}, e.g. 'bicubic'")
    height, width = target_size(*image.size, patch_size, short_side, long_side, max_patches)
    resized = image.convert("RGB").resize((width, height), INTERPOLATION[interpolation])
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255  # [H',W',3] -> [3,H',W']
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def image_bytes(image: torch.Tensor) -> torch.Tensor:
    """uint8 from uint8 (as it is) or from floating point in [0, 1] (times 255, rounded)."""
    return image if image.dtype == torch.uint8 else (image.float() * 255).round().clamp(0, 255).to(torch.uint8)
