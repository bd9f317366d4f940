"""Pictures and masks from outside: only known formats, and their size is judged before anything is decoded."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO

from clipseg_ws.door.errors import InputError, reading
from clipseg_ws.door.limits import check, limit
from clipseg_ws.door.plain import open_data

if TYPE_CHECKING:
    from PIL import Image

# what is decoded; Pillow knows more, among them EPS, for which it would start ghostscript on the file
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF", "ICO", "TGA",
           "PCX")  # fmt: skip
_PILLOW_LIMIT = threading.Lock()


@contextmanager
def open_picture(
    path: str | os.PathLike[str] | BinaryIO, name: object = None, *, max_pixels: int | None = None,
    kind: type[InputError] = InputError,
) -> Iterator[Image.Image]:  # fmt: skip
    """A picture whose header was read and whose size is allowed; nothing is decoded before it is asked for.

    Args:
        path: a regular file, or an open one, which is closed. name: for the error; None: the path.
        max_pixels: instead of ``limit("pixels")``. kind: of the error.

    Raises:
        FileNotFoundError. InputError (``kind``): a pipe, no picture, a format that is not read, damaged, too large;
        whatever a decoder raises inside the ``with`` block.
    """
    name = path if name is None else name
    with reading(name, "a picture that can be read", kind=kind):
        file: Any = open_data(path) if isinstance(path, (str, os.PathLike)) else path
        with file, opened(file, max_pixels) as image:
            yield image


def opened(file: BinaryIO, max_pixels: int | None = None) -> Image.Image:
    """The header under our limits instead of Pillow's own, which is a global variable (hence the lock)."""
    from PIL import Image, UnidentifiedImageError

    _know_heif()
    with _PILLOW_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file, formats=[name for name in FORMATS if name in known_formats()])
        except UnidentifiedImageError as error:
            raise InputError(
                "empty, or not an image of a known format (JPEG, PNG, WebP, TIFF, BMP, GIF, ...)"
            ) from error
        finally:
            Image.MAX_IMAGE_PIXELS = before
    check_size(image.width, image.height, max_pixels)
    return image


@cache
def known_formats() -> frozenset[str]:
    """Formats that this Pillow can open."""
    from PIL import Image

    Image.init()
    return frozenset(Image.OPEN)


@cache
def _know_heif() -> None:
    """Let Pillow open HEIC where pillow-heif (extra ``heif``) is installed."""
    if find_spec("pillow_heif") is not None:
        from pillow_heif import register_heif_opener

        register_heif_opener()
        known_formats.cache_clear()


def check_size(width: Any, height: Any, max_pixels: int | None = None) -> tuple[int, int]:
    """(width, height) of a picture as a file declares it, before anything of that size is made.

    Raises InputError for what is no whole number from 1 on, or larger than ``limit("side")`` or ``limit("pixels")``.
    """
    try:
        sides = (int(width), int(height))
    except (TypeError, ValueError, OverflowError):
        sides = (0, 0)
    if min(sides) < 1:
        raise InputError(f"its size is {width!r} x {height!r}; two whole numbers from 1 on are needed")
    text = f"{sides[0]} x {sides[1]} pixels"
    check("side", max(sides), text)
    if sides[0] * sides[1] > (limit("pixels") if max_pixels is None else max_pixels):
        if max_pixels is not None:
            raise InputError(f"{text} are more than max_pixels={max_pixels}")
        check("pixels", sides[0] * sides[1], text)
    return sides
