"""Pascal VOC's XML: one file a picture, under the picture's name; objects with a name and a bndbox (or robndbox)."""

from __future__ import annotations

import math
from pathlib import PurePosixPath
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
)
from clipseg_ws.weak.written import Name


def recognises(root: Element) -> bool:
    """The root is "annotation"; one without objects says that the picture holds no class."""
    return root.tag == "annotation"


def _name(root: Element, place: str) -> Name:
    """The file's own name; ``filename`` where no picture is called so."""
    said = (root.findtext("filename") or "").strip()
    folder = PurePosixPath(place).parent
    return Name((place, str(folder / said), said) if said else (place,), implied=True, rivals=True)


def read_tags(root: Element, place: str) -> Tagged:
    """The names of the objects, not of their parts."""
    return [Found(_name(root, place), [node.text or "" for node in root.iterfind("object/name")])]


def read_marks(root: Element, place: str) -> Marked:
    """The boxes of the objects; VOC counts pixels from 1, ends inclusive. Of a turned box the box around it."""
    boxes: list[Box] = []
    problems: list[str] = []
    objects = root.findall("object")
    for number, item in enumerate(objects, 1):
        try:
            boxes.append(_box(item))
        except ValueError as error:
            problems.append(f"object {number} ({item.findtext('name', '').strip()}): {error}")
    size = stated_size(root.findtext("size/height"), root.findtext("size/width"))
    marks = WeakLabels(tags=None if objects else (), boxes=tuple(boxes))
    usable = boxes or not objects
    return [Found(_name(root, place), Drawn(marks, size=size) if usable else None, tuple(problems))]


def _box(item: Element) -> Box:
    """Raises ValueError for an object without four numbers."""
    name = item.findtext("name", "")
    if item.find("bndbox") is None and item.find("robndbox") is not None:
        cx, cy, w, h, angle = numbers(item.findtext(f"robndbox/{key}") for key in ("cx", "cy", "w", "h", "angle"))
        cos, sin = math.cos(angle), math.sin(angle)  # roLabelImg: radians
        flat = ((-w / 2, -h / 2), (w / 2, -h / 2), (w / 2, h / 2), (-w / 2, h / 2))
        return around(name, [(cx + a * cos - b * sin, cy + a * sin + b * cos) for a, b in flat])
    values = [item.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x0, y0, x1, y1 = numbers(values)
    except ValueError as error:
        raise ValueError(f"its bndbox has {values}; four numbers are needed") from error
    return (name, min(x0, x1) - 1, min(y0, y1) - 1, max(x0, x1), max(y0, y1))


TAGS = Reader((".xml",), load_xml, recognises, read_tags)
MARKS = Reader((".xml",), load_xml, recognises, read_marks)
