"""Scribble PNGs: one file a picture, under the picture's name, read when it is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipseg_ws.door.pictures import open_picture
from clipseg_ws.stored import voc_palette
from clipseg_ws.structures import IGNORE
from clipseg_ws.weak.readers.forms import Found, Marked, Reader
from clipseg_ws.weak.written import Name

_WHITE = [255, 255, 255]


def read_scribbles(path: str | Path, names: Sequence[str] | None = None) -> npt.NDArray[np.uint8]:
    """[H, W] uint8 of a PNG: 0 background stroke, i + 1 class i, 255 unmarked.

    The numbers of palette and 8-bit grey pictures count. Colours, and palettes in another order than their colours
    say, are read by VOC's colours: black is a background stroke, (128, 0, 0) class 1, ..., (224, 224, 192), white and
    what is transparent are unmarked.

    Raises ValueError for other colours, or a label beyond ``names``.
    """
    try:
        with open_picture(path) as image:
            if image.mode not in ("P", "L", "RGB", "RGBA"):
                raise ValueError(f"mode {image.mode}")
            image.load()
            values = _by_colour(image) if image.mode in ("RGB", "RGBA") or _reordered(image) else np.asarray(image)
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is no PNG of scribbles: {error}") from error
    strange = [] if names is None else sorted(set(np.unique(values).tolist()) - {*range(len(names) + 1), IGNORE})
    if strange:
        raise ValueError(f"{str(path)!r} has labels {strange[:5]}; allowed: 0 to {len(names or ())}, 255 for unmarked")
    return values


def _reordered(image: Image.Image) -> bool:
    """Whether a palette's colours are VOC's, but of other labels than its numbers, as after a paint program."""
    if image.mode != "P":
        return False
    used = np.unique(np.asarray(image))
    table = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    if len(used) == 0 or used[-1] >= len(table):
        return False
    own, voc = table[used], voc_palette()
    if (own == voc[used]).all() or (own == used[:, None]).all() or not own.any():
        return False
    known = {tuple(colour) for colour in (*voc.tolist(), _WHITE)}
    return all(tuple(colour) in known for colour in own.tolist())


def _by_colour(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Labels of VOC's colours. Raises ValueError for others."""
    colours = np.asarray(image.convert("RGBA")).astype(np.int64)
    codes = colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
    voc = voc_palette().astype(np.int64)
    table = dict(zip((voc[:, 0] << 16 | voc[:, 1] << 8 | voc[:, 2]).tolist(), range(256), strict=True))
    table[0xFFFFFF] = IGNORE
    codes = np.where(colours[..., 3] < 128, 0xFFFFFF, codes)
    kinds, places = np.unique(codes, return_inverse=True)
    strange = [f"#{code:06x}" for code in kinds.tolist() if code not in table]
    if strange:
        raise ValueError(
            f"colours {', '.join(strange[:5])} are no labels; save it as a palette or grey PNG of numbers, or in VOC's "
            "colours: black background, #800000 class 1, #008000 class 2, white unmarked"
        )
    if 0xE0E0C0 not in kinds and 0xFFFFFF not in kinds:
        raise ValueError("all of it is coloured: black is a stroke of background, white or (224, 224, 192) is unmarked")
    labels: npt.NDArray[np.uint8] = np.array([table[c] for c in kinds.tolist()], np.uint8)[places].reshape(codes.shape)
    return labels


def keep_path(path: Path) -> Path:
    """Nothing is read before it is looked up, so that a large folder needs no memory."""
    return path


def recognises(path: Path) -> bool:
    """Any PNG."""
    return True


def read_marks(path: Path, place: str) -> Marked:
    """The path itself."""
    return [Found(Name((place,), implied=True), path)]


MARKS = Reader((".png",), keep_path, recognises, read_marks)
