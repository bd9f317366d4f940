"""LabelMe's JSON as a label map: filled polygons, rectangles and circles, exact for outlines on pixel borders."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clipseg_ws.door.errors import InputError
from clipseg_ws.door.pictures import check_size
from clipseg_ws.values import is_number

_FILLED = ("polygon", "rectangle", "circle")
Points = Sequence[tuple[float, float]]


def labels_of_shapes(content: Mapping[str, Any]) -> npt.NDArray[np.int32]:
    """[H, W]: 0 where no shape is, 1, 2, ... for the labels in the order of the file; later shapes lie on top.

    Raises InputError for a size that is missing or too large, no shape that can be filled, or corners that are none.
    """
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if not (is_number(height) and is_number(width)):
        raise InputError(
            f"imageHeight and imageWidth are {height!r:.40} and {width!r:.40}; the picture's size is needed"
        )
    width, height = check_size(width, height)
    labels = np.zeros((height, width), np.int32)
    filled = [s for s in content["shapes"] if (s.get("shape_type") or "polygon") in _FILLED]
    if not filled:
        raise InputError(f"no shape that can be filled; allowed: {', '.join(_FILLED)}")
    numbers = {name: i for i, name in enumerate(dict.fromkeys(str(s.get("label")) for s in filled), 1)}
    for number, shape in enumerate(filled, 1):
        try:
            corners = [(float(x), float(y)) for x, y in shape["points"]]
            outline = _outline(shape.get("shape_type") or "polygon", corners)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"shape {number} of {shape.get('label')!r:.40} has no corners: {error}") from error
        labels[fill(outline, labels.shape)] = numbers[str(shape.get("label"))]
    return labels


def fill(outline: Points, size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """[H, W] bool of the pixels whose middle lies inside a closed outline of corners (x, y), by the even-odd rule."""
    height, width = size
    toggles = np.zeros((height, width + 1), np.int32)
    corners = np.asarray(outline, float)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = min(y0, y1), max(y0, y1)
        first, last = max(0, math.ceil(low - 0.5)), min(height, math.ceil(high - 0.5))
        if first < last:
            rows = np.arange(first, last)
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(toggles, (rows, np.clip(np.ceil(x - 0.5), 0, width).astype(int)), 1)
    inside: npt.NDArray[np.bool_] = np.cumsum(toggles[:, :-1], axis=1) % 2 == 1
    return inside


def _outline(kind: str, corners: Points) -> Points:
    if not all(math.isfinite(value) for corner in corners for value in corner):
        raise ValueError("numbers that are not finite")
    if kind == "circle":
        (x, y), edge = corners
        radius = math.dist((x, y), edge)
        return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 180)[:-1]]
    if kind == "rectangle" and len(corners) == 2:
        (x0, y0), (x1, y1) = corners
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    if len(corners) < 3:
        raise ValueError(f"{len(corners)} corners; at least 3 are needed")
    return corners
