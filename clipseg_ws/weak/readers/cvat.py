"""CVAT's own XML ("CVAT for images 1.1"): many pictures in one file, each with boxes, points, lines and tags."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.readers.forms import (
    Box,
    Drawn,
    Found,
    Marked,
    Reader,
    Tagged,
    around,
    load_xml,
    numbers,
    stated_size,
    turned_corners,
)
from clipseg_ws.weak.written import Name

_SHAPES = ("box", "points", "polyline", "polygon", "ellipse", "mask", "tag", "cuboid", "skeleton")
Corners = tuple[tuple[float, float], ...]


def recognises(root: Element) -> bool:
    """The root is "annotations"."""
    return root.tag == "annotations"


def read_tags(root: Element, place: str) -> Tagged:
    """The labels of everything that was drawn in a picture, and its tags."""
    return [
        Found(Name((image.get("name", ""),), row=_row(image)), [i.get("label", "") for i in image if i.tag in _SHAPES])
        for image in _images(root)
    ]


def read_marks(root: Element, place: str) -> Marked:
    """Boxes (the box around turned ones, polygons, ellipses and masks), points, polylines as scribbles, tags."""
    return [_picture(image) for image in _images(root)]


def _images(root: Element) -> list[Element]:
    if root.find("track") is not None:
        raise ValueError("a CVAT video export (tracks); export the frames as 'CVAT for images 1.1'")
    return root.findall("image")


def _row(image: Element) -> str:
    return f"image {image.get('id', '?')}"


def _picture(image: Element) -> Found[Drawn | Path]:
    boxes: list[Box] = []
    points: list[tuple[str, float, float]] = []
    lines: list[tuple[str, Corners]] = []
    tags: list[str] = []
    problems: list[str] = []
    shapes = [item for item in image if item.tag in _SHAPES]
    for number, item in enumerate(shapes, 1):
        label = item.get("label", "")
        try:
            if item.tag == "tag":
                tags.append(label)
            elif item.tag == "points":
                points += [(label, x, y) for x, y in _corners(item)]
            elif item.tag == "polyline":
                lines.append((label, _corners(item)))
            else:
                boxes.append(_box(item, label))
        except ValueError as error:
            problems.append(f"{_row(image)}, shape {number} ({item.tag} {label!r}): {error}")
    drawn = bool(boxes or points or lines)
    known = tuple(tags) if not drawn and not problems else None  # beside marks, tags would rule the others out
    marks = WeakLabels(tags=known, boxes=tuple(boxes), points=tuple(points))
    size = stated_size(image.get("height"), image.get("width"))
    content = Drawn(marks, tuple(lines), size) if drawn or known is not None else None
    return Found(Name((image.get("name", ""),), row=_row(image)), content, tuple(problems))


def _corners(item: Element) -> Corners:
    pairs = [part for part in item.get("points", "").split(";") if part.strip()]
    corners = tuple((x, y) for x, y in (numbers(pair.split(",")) for pair in pairs))
    if not corners:
        raise ValueError("no points")
    return corners


def _box(item: Element, label: str) -> Box:
    """Raises ValueError where numbers are missing, or for what no box can be drawn around."""
    if item.tag == "polygon":
        return around(label, _corners(item))
    if item.tag == "ellipse":
        cx, cy, rx, ry = numbers(item.get(key) for key in ("cx", "cy", "rx", "ry"))
        return (label, cx - rx, cy - ry, cx + rx, cy + ry)
    if item.tag == "mask":
        x, y, width, height = numbers(item.get(key) for key in ("left", "top", "width", "height"))
        return (label, x, y, x + width, y + height)
    if item.tag != "box":
        raise ValueError("no weak mark; allowed: box, points, polyline, polygon, ellipse, mask, tag")
    x0, y0, x1, y1 = numbers(item.get(key) for key in ("xtl", "ytl", "xbr", "ybr"))
    if angle := float(item.get("rotation") or 0):  # clockwise around the middle
        width, height, cx, cy = x1 - x0, y1 - y0, (x0 + x1) / 2, (y0 + y1) / 2
        turned = turned_corners(0, 0, width, height, angle)
        mx, my = (sum(corner[i] for corner in turned) / 4 for i in (0, 1))
        return around(label, [(x - mx + cx, y - my + cy) for x, y in turned])
    return (label, x0, y0, x1, y1)


TAGS = Reader((".xml",), load_xml, recognises, read_tags)
MARKS = Reader((".xml",), load_xml, recognises, read_marks)
