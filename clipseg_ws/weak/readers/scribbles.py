"""Scribble PNGs: one file a picture, under the picture's name, read when it is looked up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clipseg_ws.door.pictures import open_picture
from clipseg_ws.structures import IGNORE
from clipseg_ws.weak.readers.forms import Found, Marked, Reader
from clipseg_ws.weak.written import Name


def read_scribbles(path: str | Path, names: Sequence[str] | None = None) -> npt.NDArray[np.uint8]:
    """[H, W] uint8 of a palette or grey PNG: 0 background stroke, i + 1 class i, 255 unmarked.

    Raises ValueError for a colour picture, or a label beyond ``names``.
    """
    try:
        with open_picture(path) as image:
            if image.mode not in ("P", "L"):
                raise ValueError(f"mode {image.mode}")
            values = np.asarray(image)
    except (OSError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is no palette or 8-bit grey PNG of scribbles ({error})") from error
    strange = [] if names is None else sorted(set(np.unique(values).tolist()) - {*range(len(names) + 1), IGNORE})
    if strange:
        raise ValueError(f"{str(path)!r} has labels {strange[:5]}; allowed: 0 to {len(names or ())}, 255 for unmarked")
    return values


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
