"""What the numbers of a mask mean: labels, or degrees of one object; by their look where the file does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipseg_ws.structures import IGNORE

FEW = 8  # colours of a drawn mask, at most; a photograph has more
SMALL = 25  # labels of a few classes do not go beyond
_VOID = (224, 224, 192)  # VOC's colour of 255
Map = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Values:
    """``map`` [H, W], bool or labels (255 ignored); ``said``: what was decided where it could be read otherwise."""

    map: Map
    said: str = ""


def of_array(values: Map, *, by_number: bool) -> Values:
    """[H, W], [H, W, 1], [1, H, W] bool or integers, or colours [H, W, 3 or 4] uint8. Raises TypeError."""
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim == 3 and values.shape[2] in (3, 4) and values.dtype == np.uint8:
        return of_image(Image.fromarray(values), by_number=by_number)
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise TypeError(f"{list(values.shape)} of {values.dtype}")
    return Values(values) if by_number or values.dtype == bool else _grey(values)


def of_image(image: Image.Image, *, by_number: bool, lossy: bool = False) -> Values:
    """A decoded picture of any mode. ``by_number``: somebody asked for a label value, so its numbers are labels.

    ``lossy``: the file's numbers are not to be trusted (JPEG). Raises ValueError for a palette without meaning.
    """
    if image.mode == "1":
        return Values(np.asarray(image))
    if by_number and image.mode in ("P", "L", "I", "I;16", "I;16B"):
        return Values(np.asarray(image))
    clear = np.asarray(image.convert("RGBA"))[..., 3] if image.has_transparency_data else None
    if clear is not None and clear.min() < 128:
        return _transparent(image, clear >= 128)
    if image.mode == "P":
        return _palette(image)
    if image.mode in ("LA", "La"):
        image = image.convert("L")
    if image.mode == "F":
        return _range(np.asarray(image), "floating point")
    if image.mode in ("L", "I", "I;16", "I;16B"):
        values = np.asarray(image)
        return _range(values, "JPEG") if lossy and len(np.unique(values)) > 2 else _grey(values)
    return _colour(np.asarray(image.convert("RGB")), lossy)


def _transparent(image: Image.Image, solid: Map) -> Values:
    """What is transparent is no object; of the rest everything, or what is not black where it is a drawn mask."""
    if image.mode == "P" and (label := _labels(image)) is not None:
        return Values(np.where(solid, label, 0), "transparent pixels are no object")
    colours = np.asarray(image.convert("RGBA"))[..., :3]
    dark = colours.max(-1) < 128
    drawn = len(np.unique(colours[solid].reshape(-1, 3), axis=0)) <= FEW
    both = drawn and (solid & dark).any() and (solid & ~dark).any()
    return Values(solid & ~dark if both else solid, "the object is what is not transparent")


def _labels(image: Image.Image) -> Map | None:
    """Numbers of a palette picture where they are labels: black is 0, or not there; None where they are not."""
    numbers = np.asarray(image)
    table = _table(image)
    used = np.unique(numbers)
    if len(used) > FEW and (table[used] == table[used][:, :1]).all():
        return None  # shades of grey: a soft mask
    if black := _black(image):
        return numbers if black == [0] else None
    return numbers if 0 in used or len(set(used.tolist()) - {IGNORE}) == 1 else None


def _black(image: Image.Image) -> list[int]:
    """The numbers of a palette picture that are used and black."""
    table = _table(image)
    return [int(i) for i in np.unique(np.asarray(image)) if not table[i].any()]


def numbers_are_colours(image: Image.Image) -> bool:
    """Whether a palette picture is black for a number above 0 and not for 0: no labels, but colours."""
    return image.mode == "P" and any(_black(image)) and 0 not in _black(image)


def _table(image: Image.Image) -> Map:
    """[256, 3] colours of a palette picture; numbers beyond the palette are their own grey."""
    palette = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    rest = np.repeat(np.arange(len(palette), 256, dtype=np.uint8)[:, None], 3, axis=1)
    return np.concatenate([palette, rest])[:256]


def _palette(image: Image.Image) -> Values:
    labels = _labels(image)
    if labels is not None:
        return Values(labels)
    numbers, table = np.asarray(image), _table(image)
    colours = table[numbers]
    used = table[np.unique(numbers)]
    if (used == used[:, :1]).all():
        return _grey(colours[..., 0], "its palette holds greys, no labels: read by brightness")
    if (used.max(-1) == 0).any():
        return Values(colours.max(-1) > 0, "its palette's numbers are no labels: what is not black is the object")
    raise ValueError(
        f"has a palette without a background: neither the number 0 nor black occurs (numbers "
        f"{', '.join(map(str, np.unique(numbers)[:8]))}); say which one is the object, e.g. 'mask.png#{numbers.max()}'"
    )


def _colour(colours: Map, lossy: bool) -> Values:
    """[H, W, 3]: whatever is not black; VOC's void is ignored."""
    bright = colours.max(-1)
    if lossy or is_soft(bright):
        return _range(bright, "JPEG" if lossy else "soft")
    void = (colours == _VOID).all(-1)
    return Values(np.where(void & (bright[~void].max(initial=0) > 0), IGNORE, bright > 0).astype(np.uint8))


def _grey(values: Map, said: str = "") -> Values:
    """Labels, or a soft mask."""
    if is_soft(values):
        return _range(values, "soft")
    return Values(values, said)


def _range(values: Map, kind: str) -> Values:
    """Object from half of the range up; values of 8 bits that reach 128 have 255 as their top."""
    top = float(values.max(initial=0))
    top = 255.0 if 128 <= top <= 255 else top
    half = top / 2
    return Values(values >= half if top > 0 else values > 0, f"a {kind} mask: object from {half:g} of {top:g} up")


def is_soft(values: Map) -> bool:
    """Whether the values [H, W] are degrees of one object, not labels.

    Labels lie in flat regions. Far from nothing and from the highest value a soft or lossy mask has several values
    that lie in no flat region of 3 x 3 pixels, or that differ from their neighbours by little.
    """
    top = int(values.max(initial=0))
    kinds = np.unique(values[(values > 0) & (values < top)])
    if len(kinds) < 2 or kinds[-1] <= SMALL:
        return False
    middle = (values > 0.1 * top) & (values < 0.9 * top)
    if not middle.any():  # nothing, everything and a little noise at both ends
        return top == IGNORE
    if len(np.unique(values[middle])) < 2:
        return top == IGNORE and len(kinds) > FEW
    if float(_flat(values)[middle].mean()) < 0.1:
        return True
    steps = np.concatenate([np.abs(np.diff(values.astype(np.int64), axis=a)).ravel() for a in (0, 1)])
    steps = steps[steps > 0]
    return len(kinds) > 32 and float((steps <= max(2, top // 100)).mean()) > 0.6


def _flat(values: Map) -> Map:
    """[H, W] bool: all of the 3 x 3 pixels around are equal; on the rim those that are there."""
    wide = np.pad(values, 1, mode="edge")
    rows, columns = values.shape
    shifted = (wide[i : i + rows, j : j + columns] for i in range(3) for j in range(3))
    result = np.ones(values.shape, bool)
    for other in shifted:
        result &= other == values
    return result
