"""A mask as a person sees it: label maps, soft and JPEG masks, colours, transparency, COCO run lengths -> 1, 0, 255."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from clipseg_ws.door.documents import read_json
from clipseg_ws.door.errors import InputError
from clipseg_ws.door.pictures import open_picture
from clipseg_ws.fewshot.mask_values import Values, of_array, of_image
from clipseg_ws.fewshot.rle import RleError, labels_of
from clipseg_ws.structures import IGNORE

Mask = npt.NDArray[np.uint8]
_INSIDE_OUT = (
    "the object fills all corners and more than half of the picture: is the mask inverted? (mask, 0) or 'mask.png#0' "
    "takes the black part"
)
_ALLOWED = (
    "a file, an array [H, W] (bool or integers), a PIL image, a COCO RLE dict, or (one of these, label value), "
    "for example ('2007_000033.png', 1)"
)


class SupportError(InputError):
    """An example that cannot be used; the message names it and says why."""


class MaskWarning(UserWarning):
    """What was decided about a mask that can be read in more than one way."""


def read_mask(mask: Any, size: tuple[int, int], name: str = "mask") -> Mask:
    """A mask -> uint8 [H, W]: 1 object, 0 background, 255 ignored.

    * A label map (palette or grey, few flat values): without a label value everything non-zero is the object and 255
      is ignored; where 255 is the only value besides 0 it is the object. With a label value, ``(mask, 8)`` or
      ``"mask.png#8"``, the pixels of that value; 255 is ignored.
    * A soft mask (smooth borders, JPEG, 16 bit, probabilities): object from half of its range up.
    * Black drawings on white paper: what is white is the object, with a warning; label value 0 takes the black part.
    * Transparency: what is transparent is no object. Colours: whatever is not black. A palette whose numbers are no
      labels (black is another number than 0) is read by its colours, or refused where black is missing.

    What was decided is said in a ``MaskWarning`` where another reading is possible.

    Args:
        mask: file (a ``.json`` file holds one RLE, or COCO annotations of one picture such as ``a_rle.json``), array,
            PIL image, COCO RLE dict ``{"size": [H, W], "counts": ...}`` (needs pycocotools), LabelMe's JSON (its labels
            count from 1 in the order of the file), or (one of these, value).
        size: (width, height) of the upright picture; a mask of the same aspect is scaled.

    Raises:
        SupportError: not readable, another aspect, or no object pixel; the message begins with ``name``.
    """
    source, value = mask if isinstance(mask, tuple) and len(mask) == 2 else _split_value(mask)
    values = _values(source, name, value, size)
    result = _scaled(_object(values, value), size, name)
    if not (result == 1).any():
        found = ", ".join(map(str, np.unique(values.map)[:12]))
        wanted = "any value but 0" if value is None else f"value {value}"
        raise SupportError(f"{name}: its mask is empty: no pixel has {wanted} (it holds {found})")
    said = [values.said] if values.said else []
    if value is None and _inside_out(result):
        said.append(_INSIDE_OUT)
    for text in said:
        warnings.warn(f"{name}: {text}", MaskWarning, stacklevel=2)
    return result


def _split_value(mask: Any) -> tuple[Any, int | None]:
    """ "mask.png#8" -> ("mask.png", 8), unless a file has that very name."""
    if isinstance(mask, str) and not os.path.exists(mask):
        path, sign, value = mask.rpartition("#")
        if sign and value.isdigit():
            return path, int(value)
    return mask, None


def _values(source: Any, name: str, value: int | None, size: tuple[int, int]) -> Values:
    """Whatever was given as values [H, W]. Raises SupportError."""
    lossy = False
    if isinstance(source, (str, Path)):
        lossy = Path(source).suffix.lower() in (".jpg", ".jpeg", ".jpe", ".jfif")
        source = _file(Path(source), name)
    try:
        if isinstance(source, Mapping):
            return Values(labels_of(source, size))
        if isinstance(source, Image.Image):
            return of_image(source, by_number=value is not None, lossy=lossy)
        return of_array(np.asarray(source), by_number=value is not None)
    except RleError as error:
        raise SupportError(f"{name}: {error}") from error
    except TypeError as error:
        raise SupportError(f"{name}: its mask is {type(source).__name__} {error}; allowed: {_ALLOWED}") from error
    except ValueError as error:
        raise SupportError(f"{name}: its mask {error}") from error


def _file(path: Path, name: str) -> Any:
    """A PIL image, or the RLE of a JSON file."""
    try:
        if path.suffix.lower() == ".json":
            return read_json(path)
        with open_picture(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except FileNotFoundError as error:
        raise SupportError(f"{name}: there is no mask {str(path)!r}") from error
    except InputError as error:
        raise SupportError(f"{name}: its mask cannot be read: {error}") from error


def _object(values: Values, value: int | None) -> Mask:
    """Mask values -> 1 object, 0 background, 255 ignored; the rule of ``read_mask``."""
    table = values.map
    if table.dtype == bool:
        return np.asarray(table, np.uint8)
    if value is not None:
        paper = value == 0 and set(np.unique(table).tolist()) <= {0, IGNORE}  # black on white
        ignored = (table == IGNORE) & (value != IGNORE) & (not paper)
        return np.where(table == value, 1, np.where(ignored, IGNORE, 0)).astype(np.uint8)
    kinds = np.unique(table[table != 0])
    if len(kinds) == 1 and kinds[0] == IGNORE:
        whole: npt.NDArray[np.uint8] = (table == IGNORE).astype(np.uint8)
        return whole
    parts: npt.NDArray[np.uint8] = np.where(table == IGNORE, IGNORE, table != 0).astype(np.uint8)
    return parts


def _scaled(mask: Mask, size: tuple[int, int], name: str) -> Mask:
    """The mask in the picture's size. Raises SupportError for another aspect."""
    width, height = size
    if mask.shape == (height, width):
        return mask
    rows, columns = mask.shape
    error = abs(rows * width - columns * height)
    if error > max(rows + columns, width + height) / 2 or error > 0.02 * min(rows * width, columns * height):
        turned = mask.shape == size and width != height
        hint = "; the picture was turned upright by its EXIF, the mask was not" if turned else ""
        raise SupportError(
            f"{name}: its mask is {columns}x{rows} pixels, the picture {width}x{height}{hint}; "
            "a mask of the picture's size is needed"
        )
    shares = [
        np.asarray(Image.fromarray((mask == v).astype(np.float32)).resize(size, Image.Resampling.BOX)) for v in (1, 255)
    ]
    inside = shares[0] >= 0.5
    for least in (0.25, 1e-6):  # thin objects survive
        if inside.mean() < 0.5 * float((mask == 1).mean()):
            inside = shares[0] >= least
    warnings.warn(f"{name}: its mask was scaled from {columns}x{rows} to {width}x{height}", MaskWarning, stacklevel=3)
    return np.where(inside, 1, np.where(shares[1] >= 0.5, IGNORE, 0)).astype(np.uint8)


def _inside_out(mask: Mask) -> bool:
    corners = mask[[0, 0, -1, -1], [0, -1, 0, -1]]
    return bool((corners == 1).all() and 0.5 < (mask == 1).mean() < 1)
