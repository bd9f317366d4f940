"""Labels of other libraries as ours: things (name, box, mask) as a label map, as weak labels, as examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clipseg_ws.output.items import Labels, Mask
from clipseg_ws.structures import Support, WeakLabels, word_key

Corners = tuple[float, float, float, float]


class Given(NamedTuple):
    """One thing that somebody marked: its name; box (x0, y0, x1, y1) in pixels, ends exclusive, and mask [H, W], or
    None for what was not given."""

    name: str
    box: Corners | None = None
    mask: Mask | None = None


def class_numbers(names: Sequence[str]) -> dict[str, int]:
    """``word_key`` of a name -> its label, i + 1. Raises ValueError for names given as one string, or twice."""
    if isinstance(names, str):
        raise ValueError(f"names={names!r} is one string; a list of names is needed, e.g. ['cat', 'dog']")
    keys = {word_key(name): label for label, name in enumerate(names, start=1)}
    if len(keys) < len(names):
        raise ValueError(f"a name stands twice in {list(names)}")
    return keys


def painted(things: Iterable[Given], names: Sequence[str], size: tuple[int, int]) -> Labels:
    """[H, W] label map (uint8, int32 from 255 names on): 0 background, i + 1 = ``names[i]``.

    Where masks overlap the smaller thing is in front.

    Args:
        things: with masks. size: (H, W) of the picture.

    Raises:
        ValueError: a thing without a mask, of another size, or whose name is not among ``names``.

    Example:
        >>> painted([Given("cat", mask=mask)], ["cat", "dog"], mask.shape)
    """
    numbers = class_numbers(names)
    labels: Labels = np.zeros(size, np.uint8 if len(names) < 255 else np.int32)
    masks: list[tuple[int, int, Mask]] = []
    for thing in things:
        if thing.mask is None:
            raise ValueError(f"{thing.name!r} has no mask, and a label map needs one; boxes alone become weak labels")
        masks.append((int(thing.mask.sum()), _number(numbers, thing.name, names), fitting(thing.mask, size)))
    for _, number, mask in sorted(masks, key=lambda item: -item[0]):
        labels[mask] = number
    return labels


def marked(things: Iterable[Given], points: Iterable[tuple[str, float, float]] = ()) -> WeakLabels:
    """Boxes (else those around masks) and points as weak labels; names without either are tags alone."""
    found, spots = list(things), tuple(points)
    boxes = tuple((thing.name, *box) for thing in found if (box := _box(thing)) is not None)
    names = [*(thing.name for thing in found), *(name for name, _, _ in spots if name != "background")]
    tags = tuple(dict.fromkeys(names)) if len(boxes) < len(found) else None
    return WeakLabels(tags=tags, boxes=boxes, points=spots)


def examples(image: Any, things: Iterable[Given]) -> list[Support]:
    """A ``Support`` a name: the picture with the union of the name's masks (uint8 [H, W], 1 inside).

    Raises ValueError for a thing without a mask.
    """
    unions: dict[str, npt.NDArray[np.uint8]] = {}
    for thing in things:
        if thing.mask is None:
            raise ValueError(f"{thing.name!r} has no mask; an example needs one")
        mask = thing.mask.astype(np.uint8)
        unions[thing.name] = mask if thing.name not in unions else np.maximum(unions[thing.name], mask)
    return [Support(image, mask, name) for name, mask in unions.items()]


def fitting(mask: npt.ArrayLike, size: tuple[int, int]) -> Mask:
    """A mask as bool [H, W]. Raises ValueError for another size."""
    values = np.asarray(mask)
    if values.shape != tuple(size):
        raise ValueError(f"a mask is {list(values.shape)}, the picture {list(size)} (height, width)")
    return values.astype(bool)


def _number(numbers: dict[str, int], name: str, names: Sequence[str]) -> int:
    if (key := word_key(name)) not in numbers:
        raise ValueError(f"{name!r} is none of the names {', '.join(names)}")
    return numbers[key]


def _box(thing: Given) -> Corners | None:
    if thing.box is not None or thing.mask is None or not thing.mask.any():
        return thing.box
    rows, columns = np.nonzero(thing.mask.any(1))[0], np.nonzero(thing.mask.any(0))[0]
    return float(columns[0]), float(rows[0]), float(columns[-1]) + 1, float(rows[-1]) + 1
