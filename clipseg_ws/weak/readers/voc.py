"""Pascal VOC's XML: one file a picture, under the picture's name; objects with a name and a bndbox."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.readers.forms import Drawn, Marked, Reader, Tagged, load_xml


def recognises(root: Element) -> bool:
    """Any XML: one without objects says that the picture holds no class."""
    return True


def read_tags(root: Element, place: str) -> Tagged:
    """The names of the objects, not of their parts."""
    return [(place, [node.text or "" for node in root.iterfind("object/name")])]


def read_marks(root: Element, place: str) -> Marked:
    """The boxes of the objects; VOC counts pixels from 1, ends inclusive."""
    boxes: list[tuple[str, float, float, float, float]] = []
    for item in root.iterfind("object"):
        values = [item.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        try:
            x0, y0, x1, y1 = (float(value or "") for value in values)
        except ValueError as error:
            raise ValueError(f"an object's bndbox has {values}; four numbers are needed") from error
        boxes.append((item.findtext("name", ""), x0 - 1, y0 - 1, x1, y1))
    return [(place, Drawn(WeakLabels(tags=None if boxes else (), boxes=tuple(boxes))))]


TAGS = Reader((".xml",), load_xml, recognises, read_tags)
MARKS = Reader((".xml",), load_xml, recognises, read_marks)
