"""LabelMe's JSON: one file a picture, under the picture's name; shapes with a label, a type and corners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.readers.forms import Drawn, Marked, Reader, load_json


def recognises(content: Any) -> bool:
    """A mapping with shapes."""
    return isinstance(content, dict) and "shapes" in content


def read_marks(content: Mapping[str, Any], place: str) -> Marked:
    """Points and rectangles, and lines to be drawn; polygons and the like are refused."""
    boxes: list[tuple[str, float, float, float, float]] = []
    points: list[tuple[str, float, float]] = []
    lines: list[tuple[str, tuple[tuple[float, float], ...]]] = []
    for shape in content["shapes"]:
        kind, name = shape.get("shape_type", "polygon"), str(shape["label"])
        corners = tuple((float(x), float(y)) for x, y in shape["points"])
        if kind == "rectangle":
            (xa, ya), (xb, yb) = corners
            boxes.append((name, min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)))
        elif kind == "point":
            points.append((name, *corners[0]))
        elif kind in ("line", "linestrip"):
            lines.append((name, corners))
        else:
            raise ValueError(f"a {kind} of {name!r} is no weak mark; allowed: point, rectangle, line, linestrip")
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = None if height is None or width is None else (int(height), int(width))
    marks = WeakLabels(tags=None if content["shapes"] else (), boxes=tuple(boxes), points=tuple(points))
    return [(place, Drawn(marks, tuple(lines), size))]


MARKS = Reader((".json",), load_json, recognises, read_marks)
