"""What is drawn on a picture in the browser: checked, and turned into weak labels, a LabelMe file or a mask."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.marks import draw_lines

MARK_KINDS = ("point", "box", "scribble")
PAINT_KINDS = ("outline", "brush", "erase")
MOST_SHAPES = 500
MOST_CORNERS = 20_000
MOST_TEXT = 2_000_000  # characters of one drawing
BACKGROUND = "background"


@dataclass(frozen=True)
class Shape:
    """One thing that was drawn.

    Attributes:
        kind: "point", "box" (two corners), "scribble", "outline" (filled), "brush" or "erase".
        name: the class, or "background"; empty for painted masks.
        corners: (x, y) in pixels of the picture, inside it. width: of a brush, in pixels.
    """

    kind: str
    name: str
    corners: tuple[tuple[float, float], ...]
    width: float = 3.0


def parse_shapes(
    text: str | None, size: tuple[int, int], kinds: Sequence[str], names: Sequence[str] | None = None
) -> tuple[Shape, ...]:
    """The browser's JSON -> shapes.

    Args:
        text: a list of {kind, name, points, width}; nothing or "" is an empty drawing.
        size: (width, height) of the picture; corners are moved inside. kinds: allowed ones.
        names: allowed classes ("background" is always allowed but for boxes); None: names are not looked at.

    Raises:
        ValueError: not such a list, too much of it, an unknown kind or class.
    """
    if not text:
        return ()
    if len(text) > MOST_TEXT:
        raise ValueError(f"the drawing is too large ({len(text)} characters, at most {MOST_TEXT}); clear a part of it")
    try:
        shapes = tuple(_shape(item, size) for item in json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError("the drawing could not be read; clear it and draw again") from error
    corners = sum(len(shape.corners) for shape in shapes)
    if len(shapes) > MOST_SHAPES or corners > MOST_CORNERS:
        raise ValueError(f"{len(shapes)} marks with {corners} corners; at most {MOST_SHAPES} and {MOST_CORNERS}")
    for shape in shapes:
        if shape.kind not in kinds:
            raise ValueError(f"a {shape.kind!r} cannot be drawn here; allowed: {', '.join(kinds)}")
        if names is not None and shape.name not in (*names, *([] if shape.kind == "box" else [BACKGROUND])):
            raise ValueError(f"a {shape.kind} is called {shape.name!r}, which is no class; known: {', '.join(names)}")
    return tuple(_settled(shape) for shape in shapes)


def _shape(item: Any, size: tuple[int, int]) -> Shape:
    corners = [(float(x), float(y)) for x, y in item["points"]]
    width = float(item.get("width", 3))
    if not corners or not all(math.isfinite(v) for corner in (*corners, (width,)) for v in corner):
        raise ValueError("no corners")
    inside = tuple((_clip(x, size[0]), _clip(y, size[1])) for x, y in corners)
    return Shape(str(item["kind"]), str(item.get("name", "")), inside, _clip(width, 500))


def _clip(value: float, limit: int) -> float:
    return round(min(max(value, 0.0), float(limit)), 1)


def _settled(shape: Shape) -> Shape:
    """Boxes with their corners in order; a scribble of one spot is a point."""
    if shape.kind == "box":
        (xa, ya), (xb, yb) = shape.corners[0], shape.corners[-1]
        return replace(shape, corners=((min(xa, xb), min(ya, yb)), (max(xa, xb), max(ya, yb))))
    if shape.kind == "scribble" and len(set(shape.corners)) == 1:
        return replace(shape, kind="point", corners=shape.corners[:1])
    return shape


def to_weak(
    shapes: Sequence[Shape], names: Sequence[str], size: tuple[int, int], tags: Sequence[str] | None = None
) -> WeakLabels:
    """Marks as weak labels; ``size`` is (width, height), ``tags`` the classes that may be there (None: not known)."""
    lines = [(s.name, s.corners) for s in shapes if s.kind == "scribble"]
    return WeakLabels(
        tags=None if tags is None else tuple(tags),
        boxes=tuple((s.name, *s.corners[0], *s.corners[1]) for s in shapes if s.kind == "box"),
        points=tuple((s.name, *s.corners[0]) for s in shapes if s.kind == "point"),
        scribbles=draw_lines(lines, names, (size[1], size[0])) if lines else None,
    )


def to_labelme(shapes: Sequence[Shape], picture: str, size: tuple[int, int]) -> dict[str, Any]:
    """Marks in LabelMe's form, which ``clipseg-ws pseudo --marks`` reads back as the same weak labels."""
    kinds = {"box": "rectangle", "point": "point", "scribble": "linestrip"}
    drawn = [{"label": s.name, "shape_type": kinds[s.kind], "points": [list(c) for c in s.corners]} for s in shapes]
    return {"version": "5.0", "imagePath": picture, "imageWidth": size[0], "imageHeight": size[1], "shapes": drawn}


def paint_mask(shapes: Sequence[Shape], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Painted shapes -> uint8 [H, W], 1 inside outlines and under the brush, later on top; ``size`` (width, height).

    Raises ValueError where nothing is painted.
    """
    sheet = Image.new("L", size, 0)
    pen = ImageDraw.Draw(sheet)
    for shape in shapes:
        if shape.kind == "outline" and len(shape.corners) > 2:
            pen.polygon(shape.corners, fill=1)
        elif shape.kind != "outline":
            fill, half = int(shape.kind == "brush"), max(shape.width / 2, 0.5)
            pen.line(shape.corners, fill=fill, width=max(1, round(shape.width)), joint="curve")
            for x, y in shape.corners:
                pen.ellipse((x - half, y - half, x + half, y + half), fill=fill)
    mask = np.array(sheet)
    if not mask.any():
        raise ValueError("nothing is painted on the example; outline the thing with the mouse, or give a mask file")
    return mask
