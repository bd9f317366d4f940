"""LabelMe's JSON (X-AnyLabeling's too): one file a picture, which imagePath names; shapes with label, type, corners."""

from __future__ import annotations

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


def read_marks(content: Mapping[str, Any], place: str) -> Marked:
    """Points and rectangles, and lines to be drawn; polygons and the like are refused."""
    boxes: list[Box] = []
    points: list[tuple[str, float, float]] = []
    lines: list[tuple[str, Corners]] = []
    problems: list[str] = []
    shapes = [shape for shape in content["shapes"] if not is_ignored(str(shape.get("label") or ""))]
    for number, shape in enumerate(shapes, 1):
        kind, name = shape.get("shape_type") or "polygon", str(shape["label"])
        if kind not in ("rectangle", "rotation", "point", "line", "linestrip"):
            raise ValueError(f"a {kind} of {name!r} is no weak mark; allowed: point, rectangle, line, linestrip")
        try:
            corners = _corners(shape["points"], 1 if kind == "point" else 2)
        except (ValueError, TypeError) as error:
            problems.append(f"shape {number} ({kind} of {name!r}): {error}")
            continue
        if kind in ("rectangle", "rotation"):  # two corners, or four as X-AnyLabeling writes them
            boxes.append(around(name, corners))
        elif kind == "point":
            points.append((name, *corners[0]))
        else:
            lines.append((name, corners))
    size = stated_size(content.get("imageHeight"), content.get("imageWidth"))
    marks = WeakLabels(tags=None if shapes else (), boxes=tuple(boxes), points=tuple(points))
    usable = boxes or points or lines or not problems
    drawn = Drawn(marks, tuple(lines), size) if usable else None
    return [Found(_name(content.get("imagePath"), place), drawn, tuple(problems))]


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
