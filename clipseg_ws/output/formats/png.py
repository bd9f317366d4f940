"""Label PNG: palette PNG (VOC colours) whose indices are the labels, 255 = ignored; from 255 classes on 16-bit grey."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipseg_ws.door.errors import InputError
from clipseg_ws.door.pictures import open_picture
from clipseg_ws.files import atomic_write
from clipseg_ws.pictures.written import png_note
from clipseg_ws.stored import voc_palette
from clipseg_ws.structures import IGNORE, Result


def write(result: Result, path: Path, files: Sequence[str]) -> None:
    """The labels of a result, see ``write_label_png``."""
    write_label_png(result.labels, path, classes=len(result.names))


def write_label_png(labels: npt.NDArray[Any], path: str | Path, *, classes: int | None = None) -> None:
    """Write [H, W] integer labels as PNG, readable back bit-exactly with ``read_label_png``.

    Args:
        labels: 0 to 255, or to 65535.
        classes: size of the vocabulary; from 255 on 16-bit grey is written whatever labels occur. None: only where a
            label is above 255.
    """
    image = label_image(labels, classes)
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=png_note())


def label_image(labels: npt.NDArray[Any], classes: int | None = None) -> Image.Image:
    """What ``write_label_png`` writes, with palette or in 16 bits. Raises ValueError for what is no label map."""
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or 0 in labels.shape:
        raise ValueError(f"labels must be an integer array [H,W], got {labels.dtype} {list(labels.shape)}")
    low, high = int(labels.min()), int(labels.max())
    wide = high > 255 if classes is None else classes >= IGNORE
    if low < 0 or high > (65535 if wide else 255):
        raise ValueError(f"labels from {low} to {high}; allowed are 0 to 255, from 255 classes on 0 to 65535")
    if wide:
        return Image.fromarray(labels.astype(np.uint16))
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(voc_palette().tobytes())  # turns "L" into "P", values unchanged
    return image


def read_label_png(path: str | Path) -> npt.NDArray[Any]:
    """[H, W] labels of a palette, 8-bit grey (uint8) or 16-bit grey (int32) PNG.

    Raises ValueError for a colour picture or a damaged file, FileNotFoundError for none.
    """
    try:
        with open_picture(path) as image:
            mode, values = image.mode, np.asarray(image)
    except InputError as error:
        raise InputError(f"cannot read {error}") from error
    if mode not in ("P", "L", "I;16", "I"):
        raise ValueError(f"{str(path)!r} has mode {mode}: not labels; allowed are palette and grey PNG")
    return values if values.dtype == np.uint8 else values.astype(np.int32)
