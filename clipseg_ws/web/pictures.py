"""Pictures that visitors hand in: read under limits, brought to a size the page can work with, without metadata."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

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


def bare(image: Image.Image) -> Image.Image:
    """The pixels as RGB and nothing else: no EXIF (position, camera), no colour profile, no text."""
    return Image.fromarray(np.asarray(image.convert("RGB")))
