"""LabelMe's JSON (X-AnyLabeling's too): one file a picture, which imagePath names; shapes with label, type, corners."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.names import is_ignored, split_suffix
from clipseg_ws.weak.readers.forms import (
    Box,
    Drawn,
    Found,
    Marked,
    Reader,
    around,
    load_json,
    numbers,
    stated_size,
)
from clipseg_ws.weak.written import Name, taken_apart

Corners = tuple[tuple[float, float], ...]


def recognises(content: Any) -> bool:
    """A mapping with shapes."""
    return isinstance(content, dict) and "shapes" in content


# shapes around which a box is drawn -> corners they need; boxes themselves, two corners or X-AnyLabeling's four
_BOXED = {"rectangle": 2, "rotation": 2, "polygon": 3, "circle": 2, "mask": 2}


def read_marks(content: Mapping[str, Any], place: str) -> Marked:
    """Points, rectangles, lines to be drawn; the box around polygons, circles and masks."""
    boxes: list[Box] = []
    points: list[tuple[str, float, float]] = []
    lines: list[tuple[str, Corners]] = []
    problems: list[str] = []
    shapes = [shape for shape in content["shapes"] if not is_ignored(str(shape.get("label") or ""))]
    for number, shape in enumerate(shapes, 1):
        kind, name = shape.get("shape_type") or "polygon", str(shape["label"])
        try:
            if kind in _BOXED:
                boxes.append(_box(name, kind, _corners(shape["points"], _BOXED[kind])))
            elif kind == "point":
                points.append((name, *_corners(shape["points"], 1)[0]))
            elif kind in ("line", "linestrip"):
                lines.append((name, _corners(shape["points"], 2)))
            else:
                raise ValueError(f"no known shape; allowed: point, line, linestrip, {', '.join(_BOXED)}")
        except (ValueError, TypeError) as error:
            problems.append(f"shape {number} ({kind} of {name!r}): {error}")
    size = stated_size(content.get("imageHeight"), content.get("imageWidth"))
    marks = WeakLabels(tags=None if shapes else (), boxes=tuple(boxes), points=tuple(points))
    usable = boxes or points or lines or not problems
    drawn = Drawn(marks, tuple(lines), size) if usable else None
    return [Found(_name(content.get("imagePath"), place), drawn, tuple(problems))]


def _box(name: str, kind: str, corners: Corners) -> Box:
    if kind != "circle":
        return around(name, corners)
    (x, y), edge = corners[0], corners[1]  # middle, and a point on the rim
    radius = math.dist((x, y), edge)
    return (name, x - radius, y - radius, x + radius, y + radius)


def _corners(points: Any, least: int) -> Corners:
    corners = tuple((x, y) for x, y in (numbers(pair) for pair in points))
    if len(corners) < least:
        raise ValueError(f"{len(corners)} points; at least {least} are needed")
    return corners


def _name(path: Any, place: str) -> Name:
    """``imagePath`` decides, seen from the file's own folder; the file's own name counts only where it agrees."""
    if not isinstance(path, str) or not path.strip():
        return Name((place,), implied=True)
    said, folder = path.strip().replace("\\", "/"), PurePosixPath(place).parent
    parts = taken_apart(said)
    if not parts.folders and not parts.kind:
        return Name((str(folder / parts.last), parts.last), implied=True)
    own = (place,) if split_suffix(parts.last)[0] == PurePosixPath(place).name else ()
    return Name((said, *own), implied=False)


MARKS = Reader((".json",), load_json, recognises, read_marks)
