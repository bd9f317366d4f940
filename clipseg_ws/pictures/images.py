"""Whatever a user holds as an RGB picture, and a picture as the pixels that a network takes. torch comes on call."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clipseg_ws.pictures.reading import ImageError, decode_image, read_image, reason, to_rgb
from clipseg_ws.pictures.sizes import target_size
from clipseg_ws.pictures.sources import Source

if TYPE_CHECKING:
    import torch

INTERPOLATION = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


ALLOWED = (
    "allowed: a path or URL, a PIL image, a numpy uint8 array [H,W,3] (RGB) or [H,W] (grey), a torch tensor [3,H,W] or "
    "[1,H,W] (uint8, or floating point in [0, 1]), the bytes of an image file, an open binary file"
)


def to_image(obj: Any) -> Image.Image:
    """RGB picture from whatever a user holds.

    A path, URL or ``Source``, bytes and open files are read as ``reading.read_image`` does (EXIF rotation applied).
    A PIL image, an array or a tensor is taken in its own frame: no EXIF rotation, so that masks fit what was handed in.

    Args:
        obj: path, URL, Source; PIL image; uint8 array [H, W, 3] or [H, W]; tensor [3, H, W] or [1, H, W], uint8 or
            floating point in [0, 1], on any device; bytes of an image file; a file object opened in binary mode.

    Raises:
        ImageError: another shape, dtype or range, another type, or a picture that cannot be read.

    Example:
        >>> to_image(torch.rand(3, 20, 30)).size
        (30, 20)
    """
    if isinstance(obj, (str, Path, Source)):
        return read_image(obj)
    if isinstance(obj, Image.Image):
        try:
            return to_rgb(obj)
        except Exception as error:  # a lazily opened file is decoded here
            raise ImageError(f"cannot use the {obj.mode} picture of size {obj.size}: {reason(error)}") from error
    if isinstance(obj, (bytes, bytearray, memoryview)):
        return decode_image(bytes(obj), "the bytes of an image")
    if hasattr(obj, "read"):
        return _from_file(obj)
    if "torch" in sys.modules and isinstance(obj, sys.modules["torch"].Tensor):  # without it nobody has made one
        obj = _from_tensor(obj)
    if not isinstance(obj, np.ndarray):
        raise ImageError(f"got {type(obj).__name__}; {ALLOWED}")
    if obj.dtype != np.uint8:
        raise ImageError(f"got an array of {obj.dtype}; {ALLOWED}, e.g. (x * 255).round().astype('uint8') for [0, 1]")
    if not (obj.ndim == 2 or (obj.ndim == 3 and obj.shape[2] == 3)) or 0 in obj.shape:
        raise ImageError(f"got an array of shape {list(obj.shape)}; {ALLOWED}")
    return Image.fromarray(np.ascontiguousarray(obj)).convert("RGB")


def _from_file(file: Any) -> Image.Image:
    """What is left of an open file, which stays open."""
    name = str(getattr(file, "name", f"a {type(file).__name__}"))
    try:
        data = file.read()
    except Exception as error:
        raise ImageError(f"cannot read {name!r}: {reason(error)}") from error
    if not isinstance(data, bytes):
        raise ImageError(f"{name!r} gives {type(data).__name__}; open it in binary mode: open(path, 'rb')")
    if not data:
        raise ImageError(f"{name!r} has nothing left to read; file.seek(0) goes back to its start")
    return decode_image(data, name)


def _from_tensor(tensor: torch.Tensor) -> np.ndarray:
    """[3, H, W] or [1, H, W] -> uint8 [H, W, 3] or [H, W] on the host."""
    import torch

    shape = list(tensor.shape)
    if len(shape) == 4:
        raise ImageError(f"got a batch of tensors {shape}; hand over a list of pictures: list(batch)")
    if len(shape) != 3 or shape[0] not in (1, 3) or 0 in shape:
        hint = ", e.g. x.permute(2, 0, 1)" if len(shape) == 3 and shape[2] in (1, 3) else ""
        raise ImageError(f"got a tensor {shape}; {ALLOWED}{hint}")
    values = tensor.detach().cpu()
    if values.is_floating_point():
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # NaN too
            raise ImageError(f"got a tensor with values from {low:.4g} to {high:.4g}; floating point means [0, 1]")
    elif values.dtype != torch.uint8:
        raise ImageError(f"got a tensor of {str(values.dtype).removeprefix('torch.')}; {ALLOWED}")
    array: np.ndarray = image_bytes(values).permute(1, 2, 0).numpy()
    return array[..., 0] if shape[0] == 1 else array


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
    import torch

    height, width = target_size(*image.size, patch_size, short_side, long_side, max_patches)
    resized = image.convert("RGB").resize((width, height), INTERPOLATION[interpolation])
    pixels = np.array(resized, np.float32)  # [H',W',3]; by numpy: torch's operators are for whole batches
    pixels /= np.float32(255)
    pixels -= np.asarray(mean, np.float32)
    pixels /= np.asarray(std, np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def image_bytes(image: torch.Tensor) -> torch.Tensor:
    """uint8 from uint8 (as it is) or from floating point in [0, 1] (times 255, rounded)."""
    import torch

    return image if image.dtype == torch.uint8 else (image.float() * 255).round().clamp(0, 255).to(torch.uint8)
