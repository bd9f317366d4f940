"""Pictures on their way in: reading, pixels for the backbone, sliding windows and their stitching.

Reading files and URLs is the only side effect; the rest is pictures and tensors in, tensors out. What a path, folder,
glob, list or URL stands for is in ``sources.py`` (``Source`` and ``list_sources`` are offered here as well).
"""

from __future__ import annotations

import math
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from clipseg_ws import __version__
from clipseg_ws.pictures.objects import is_object_store, read_object
from clipseg_ws.pictures.sources import IMAGE_SUFFIXES, Source, check_url, is_url, list_sources

__all__ = [
    "IMAGE_SUFFIXES", "INTERPOLATION", "ImageError", "Source", "attach_pixels", "attached_pixels", "decode_image",
    "list_sources", "read_bytes", "read_image", "resize_maps", "stitch", "target_size", "to_image", "to_pixels",
    "window_boxes",
]  # fmt: skip

MAX_PIXELS = 300_000_000  # of one picture; decoding that many takes about 1 GB
MAX_BYTES = 100_000_000  # of one download
INTERPOLATION = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_PILLOW_LIMIT = threading.Lock()
_READY = "_clipseg_ws_pixels"  # attribute of a PIL picture


class ImageError(ValueError):
    """A picture that cannot be used; the message names it and says why."""


def read_image(
    source: Source | str | Path, *, max_pixels: int = MAX_PIXELS, timeout: float = 30.0, max_bytes: int = MAX_BYTES
) -> Image.Image:
    """Read one file, http(s) URL or object (``s3://...``) as an RGB picture: EXIF rotation applied, first frame only.

    Transparent parts are laid on white, 16-bit grey is divided by 257 (never stretched), palettes and CMYK converted.

    Args:
        max_pixels: a larger picture is refused before it is decoded.
        timeout, max_bytes: limits for the whole download, in seconds and bytes.

    Raises:
        ImageError: not there, not an image, damaged, too large, not downloadable; names the source and the reason.
    """
    name = str(source)
    if is_url(name):
        return decode_image(read_bytes(name, timeout=timeout, max_bytes=max_bytes), name, max_pixels=max_pixels)
    try:
        file = open(name, "rb")  # noqa: SIM115
    except OSError as error:
        raise ImageError(f"cannot read {name!r}: {_reason(error)}") from error
    return decode_image(file, name, max_pixels=max_pixels)


def decode_image(data: bytes | BinaryIO, name: str, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """``read_image`` of the contents of a file, which is closed; ``name`` is for the error."""
    try:
        with BytesIO(data) if isinstance(data, bytes) else data as file, _open(file, max_pixels) as image:
            image.load()
            return _to_rgb(_upright(image))
    except Exception as error:  # decoders raise anything on damaged bytes
        raise ImageError(f"cannot read {name!r}: {_reason(error)}") from error


def read_bytes(location: str, *, timeout: float = 30.0, max_bytes: int = MAX_BYTES) -> bytes:
    """The contents of a file, an http(s) URL or an object (``s3://...``). Raises ImageError."""
    try:
        if is_object_store(location):
            return read_object(location, max_bytes)
        return _download(location, timeout, max_bytes) if is_url(location) else Path(location).read_bytes()
    except Exception as error:
        raise ImageError(f"cannot read {location!r}: {_reason(error)}") from error


def _open(file: BinaryIO, max_pixels: int) -> Image.Image:
    """Read the header under our limit instead of Pillow's own, which is a global variable (hence the lock)."""
    with _PILLOW_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = before
    if image.width * image.height > max_pixels:
        raise ImageError(f"{image.width} x {image.height} pixels are more than max_pixels={max_pixels}")
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "empty, or not an image of a known format (JPEG, PNG, WebP, TIFF, BMP, GIF, ...)"
    return f"{type(error).__name__}: {error}" if not isinstance(error, (OSError, ValueError)) else str(error)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a broken EXIF block must not cost the picture
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """RGB copy of a decoded picture of any Pillow mode."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba).convert("RGB")
    if image.mode == "F":
        raise ImageError("a floating point picture has no known range; store it with 8 or 16 bits")
    if image.mode.startswith("I"):  # "I", "I;16", "I;16B": 16 bits, in "I" held in 32
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"32-bit grey from {values.min()} to {values.max()}; allowed is 16-bit, 0 to 65535")
        return Image.fromarray((values / 257.0 + 0.5).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _download(url: str, timeout: float, max_bytes: int) -> bytes:
    opener = urllib.request.OpenerDirector()  # http and https only, also after a redirect: no file:, no ftp:
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor, urllib.request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    end = time.monotonic() + timeout
    address = urllib.parse.quote(check_url(url), safe="%/:=&?~#+!$,;'@()*[]")  # spaces and letters beyond ASCII
    request = urllib.request.Request(address, headers={"User-Agent": f"clipseg_ws/{__version__}"})
    with opener.open(request, timeout=timeout) as answer:
        expected, data = answer.headers.get("Content-Length"), bytearray()
        while chunk := answer.read1(1 << 16):
            data += chunk
            if len(data) > max_bytes:
                raise ImageError(f"the download is larger than max_bytes={max_bytes}")
            if time.monotonic() > end:
                raise ImageError(f"the download takes longer than timeout={timeout} s")
    if expected and expected.isdigit() and int(expected) != len(data):
        raise ImageError(f"the download was cut off after {len(data)} of {expected} bytes")
    return bytes(data)


def to_image(obj: Any) -> Image.Image:
    """RGB picture from whatever a user holds: path, URL or Source (read), PIL image, uint8 array [H,W,3] or [H,W].

    A PIL image or an array is taken in its own frame: no EXIF rotation, so that masks fit what was handed in.

    Raises:
        ImageError: an array of another shape or dtype, another type, or a picture that cannot be read.
    """
    if isinstance(obj, (str, Path, Source)):
        return read_image(obj)
    if isinstance(obj, Image.Image):
        if hasattr(obj, _READY):  # ours, and RGB: a copy would lose what is attached
            return obj
        try:
            return _to_rgb(obj)
        except Exception as error:  # a lazily opened file is decoded here
            raise ImageError(f"cannot use the {obj.mode} picture of size {obj.size}: {_reason(error)}") from error
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


def attach_pixels(image: Image.Image, sizes: Mapping[str, Any], pixels: torch.Tensor) -> None:
    """Keep the network input [3, H', W'] with the RGB picture itself (not with copies, crops or resized ones of it)."""
    setattr(image, _READY, (dict(sizes), pixels))


def attached_pixels(image: Image.Image, sizes: Mapping[str, Any]) -> torch.Tensor | None:
    """What was attached for these very arguments of ``to_pixels``, else None."""
    made_for, pixels = getattr(image, _READY, (None, None))
    return pixels if made_for == dict(sizes) else None


def window_boxes(size: tuple[int, int], crop: int, stride: int) -> list[tuple[int, int, int, int]]:
    """Sliding windows (y0, y1, x0, x1) over a picture of ``size`` (H, W), ends exclusive, row by row.

    The last window of a row or column is moved back to the border; a side shorter than ``crop`` gives a window of that
    length. The rule of SCLIP, ClearCLIP and NACLIP.
    """
    if not 1 <= stride <= crop or min(size) < 1:
        raise ValueError(f"need 1 <= stride <= crop and a size >= 1, got stride={stride}, crop={crop}, size={size}")

    def spans(length: int) -> list[tuple[int, int]]:
        ends = [min(i * stride + crop, length) for i in range(max(length - crop + stride - 1, 0) // stride + 1)]
        return [(max(end - crop, 0), end) for end in ends]

    return [(y0, y1, x0, x1) for y0, y1 in spans(size[0]) for x0, x1 in spans(size[1])]


def stitch(
    windows: Iterable[torch.Tensor], boxes: Sequence[tuple[int, int, int, int]], size: tuple[int, int]
) -> torch.Tensor:
    """Mean over overlapping windows: n maps [B,T,ch,cw] (or one tensor [n,B,T,ch,cw]) of ``boxes`` -> [B,T,H,W].

    Summed in float32 at least; the result has the windows' dtype and device. Windows may be a generator: one at a time
    is held.

    Raises:
        ValueError: a window that does not fit its box, more or fewer windows than boxes, or a pixel no box covers.
    """
    total, dtype, used = None, torch.float32, 0
    count = torch.zeros(size)
    for window, (y0, y1, x0, x1) in zip(windows, boxes, strict=True):
        if tuple(window.shape[-2:]) != (y1 - y0, x1 - x0) or window.ndim != 4:
            raise ValueError(f"window {used} is {list(window.shape)}, its box needs [B,T,{y1 - y0},{x1 - x0}]")
        if total is None:
            dtype = window.dtype
            wide = torch.promote_types(dtype, torch.float32)
            total = torch.zeros(*window.shape[:2], *size, dtype=wide, device=window.device)
        total[:, :, y0:y1, x0:x1] += window
        count[y0:y1, x0:x1] += 1
        used += 1
    if total is None or not count.all():
        raise ValueError(f"{used} windows leave {int((count == 0).sum())} of {size[0]} x {size[1]} pixels uncovered")
    return (total / count.to(total)).to(dtype)


def resize_maps(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """[B,C,h,w] -> [B,C,H,W], bilinear with half-pixel centres, not antialiased; C may be 0."""
    if 0 in maps.shape[:2]:
        return maps.new_zeros(*maps.shape[:2], *size)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
