"""The confidence of every pixel as 8-bit grey PNG, 255 = certain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipseg_ws.door.pictures import open_picture
from clipseg_ws.files import atomic_write
from clipseg_ws.pictures.written import png_note
from clipseg_ws.stored import to_bytes
from clipseg_ws.structures import Result


def write(result: Result, path: Path, files: Sequence[str]) -> None:
    """Confidence [H, W] in [0, 1], rounded to 255 steps. Raises ValueError for other numbers."""
    values = to_bytes(result.confidence)
    with atomic_write(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG", pnginfo=png_note())


def read_confidence(path: str | Path) -> npt.NDArray[np.uint8]:
    """[H, W] uint8 as ``write`` made it: 255 times the confidence."""
    with open_picture(path) as image:
        return np.asarray(image.convert("L"))
