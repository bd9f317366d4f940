"""Files, URLs and objects read as RGB pictures, under limits. Reading is the only side effect.

What a path, folder, glob, list or URL stands for is in ``sources.py``.
"""

from __future__ import annotations

import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from queue import Empty, Queue
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from clipseg_ws import __version__
from clipseg_ws.door.errors import InputError, one_line
from clipseg_ws.door.errors import reason as said_of
from clipseg_ws.door.limits import limit
from clipseg_ws.door.pictures import opened
from clipseg_ws.door.plain import is_file, open_data, read_data
from clipseg_ws.pictures.objects import is_object_store, read_object
from clipseg_ws.pictures.sources import Source, check_url, is_url


class ImageError(InputError):
    """A picture that cannot be used; the message names it and says why."""


def read_image(
    source: Source | str | Path, *, max_pixels: int | None = None, timeout: float = 30.0,
    max_bytes: int | None = None,
) -> Image.Image:
    """Read one file, http(s) URL or object (``s3://...``) as an RGB picture: EXIF rotation applied, first frame only.

    Transparent parts are laid on white, 16-bit grey is divided by 257 (never stretched), palettes and CMYK converted.

    Args:
        max_pixels: a larger picture is refused before it is decoded; None: ``door.limit("pixels")``.
        timeout, max_bytes: limits for the whole download, in seconds and bytes; None: ``limit("download_bytes")``.

    Raises:
        ImageError: not there, not an image, damaged, too large, not downloadable; names the source and the reason.
    """
    name = str(source)
    if is_url(name):
        return decode_image(read_bytes(name, timeout=timeout, max_bytes=max_bytes), name, max_pixels=max_pixels)
    try:
        file = open_data(name)
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot read {name!r}: {reason(error)}") from error
    return decode_image(file, name, max_pixels=max_pixels)


def decode_image(data: bytes | BinaryIO, name: str, *, max_pixels: int | None = None) -> Image.Image:
    """``read_image`` of the contents of a file, which is closed; ``name`` is for the error."""
    try:
        with BytesIO(data) if isinstance(data, bytes) else data as file, opened(file, max_pixels) as image:
            image.load()
            return to_rgb(_upright(image))
    except Exception as error:  # decoders raise anything on damaged bytes
        raise ImageError(f"cannot read {name!r}: {reason(error)}") from error


def stored_size(source: Source | str | Path) -> tuple[tuple[int, int], int] | None:
    """(H, W) of the upright picture and its EXIF orientation (1 for none), from the header; None where no file is.

    Raises ImageError for what is no picture. A URL is downloaded for it.
    """
    name = str(source)
    if not is_url(name) and not is_file(name):
        return None
    try:
        with BytesIO(read_bytes(name)) if is_url(name) else open_data(name) as file, opened(file) as image:
            width, height = image.size
            orientation = int(image.getexif().get(0x0112, 1) or 1)
    except Exception as error:
        raise ImageError(f"cannot read {name!r}: {reason(error)}") from error
    orientation = orientation if orientation in range(1, 9) else 1
    return ((width, height) if orientation > 4 else (height, width)), orientation


def read_bytes(
    location: str, *, timeout: float = 30.0, max_bytes: int | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """The contents of a file, an http(s) URL or an object (``s3://...``). Raises ImageError.

    ``headers``: of the request to a URL; a server to which it redirects does not get them.
    """
    try:
        most = limit("download_bytes") if max_bytes is None else max_bytes
        if is_object_store(location):
            return read_object(location, most)
        return _in_time(location, timeout, most, headers or {}) if is_url(location) else read_data(location)
    except Exception as error:
        raise ImageError(f"cannot read {location!r}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What to say of an error that reading or decoding raised."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, InputError) and error.file:
        return str(error).removeprefix(f"{error.file!r}: ")  # the path is said by the caller
    if isinstance(error, (OSError, ValueError)) and str(error):
        return one_line(error)
    return said_of(error)


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # a broken EXIF block must not cost the picture
        ImageOps.exif_transpose(image, in_place=True)
    return image


def to_rgb(image: Image.Image) -> Image.Image:
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


def _in_time(url: str, timeout: float, max_bytes: int, headers: Mapping[str, str]) -> bytes:
    """``_download`` under a limit on the whole: a server that sends a byte now and then is left to itself.

    The library's own timeout starts again with every byte, of the headers too.
    """
    result: Queue[bytes | Exception] = Queue()

    def work() -> None:
        try:
            result.put(_download(url, timeout, max_bytes, headers))
        except Exception as error:
            result.put(error)

    threading.Thread(target=work, daemon=True, name="download").start()
    try:
        found = result.get(timeout=timeout + 1)
    except Empty:
        raise ImageError(f"the download takes longer than timeout={timeout} s") from None
    if isinstance(found, Exception):
        raise found
    return found


def _download(url: str, timeout: float, max_bytes: int, headers: Mapping[str, str]) -> bytes:
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
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
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
