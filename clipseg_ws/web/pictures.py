"""Pictures that visitors hand in: read under limits, brought to a size the page can work with, without metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipseg_ws.door.pictures import open_picture
from clipseg_ws.pictures.reading import ImageError, read_image

MAX_BYTES = 30_000_000  # of one upload; the browser is told the same number
MAX_PIXELS = 64_000_000  # of one picture before it is decoded
WORK_SIDE = 1280  # longer pictures are shrunk to this many pixels on the long side
LIMITS = f"this page takes pictures of up to {MAX_PIXELS // 10**6} million pixels and {MAX_BYTES // 10**6} MB"


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as the page works with it: RGB without EXIF or other metadata, and a line about it.

    ``original``: (width, height) before it was shrunk.
    """

    image: Image.Image
    note: str
    original: tuple[int, int]


def load_picture(path: str | Path) -> Picture:
    """Read an upload: upright, RGB, at most ``WORK_SIDE`` long, nothing kept but the pixels.

    Raises:
        ImageError: not an image, damaged or too large; the message names the file (not its folder) and the limits.
    """
    name = Path(path).name
    try:
        image = read_image(path, max_pixels=MAX_PIXELS)
    except ImageError as error:
        reason = str(error).replace(repr(str(path)), repr(name))
        raise ImageError(f"{reason}; {LIMITS}, for example 4000 x 3000") from error
    return shrink(image, name)


def shrink(image: Image.Image, name: str) -> Picture:
    """A picture under ``name``, without metadata and at most ``WORK_SIDE`` on its long side."""
    original = image.size
    note = f"{name}, {image.width} × {image.height} pixels"
    if max(image.size) > WORK_SIDE:
        scale = WORK_SIDE / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
        note += f", shrunk to {size[0]} × {size[1]} for this page; the command line works at full size"
    return Picture(bare(image), note, original)


def fitted_mask(path: str, picture: Picture) -> Any:
    """A mask file as [H, W] of the example; one of the size before the page shrank the picture is shrunk as well."""
    from clipseg_ws.fewshot.supports import read_mask

    name = Path(path).name
    with open_picture(path, name, max_pixels=MAX_PIXELS) as image:
        size = image.size
    if size not in (picture.image.size, picture.original):
        wanted = " or ".join(f"{w} × {h}" for w, h in dict.fromkeys([picture.original, picture.image.size]))
        raise ValueError(f"the mask {name!r} is {size[0]} × {size[1]} pixels; the example needs one of {wanted}")
    mask = read_mask(path, size, name)
    if size == picture.image.size:
        return mask
    return np.asarray(Image.fromarray(mask).resize(picture.image.size, Image.Resampling.NEAREST))


def bare(image: Image.Image) -> Image.Image:
    """The pixels as RGB and nothing else: no EXIF (position, camera), no colour profile, no text."""
    return Image.fromarray(np.asarray(image.convert("RGB")))
