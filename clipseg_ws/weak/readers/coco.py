"""COCO's JSON: images, annotations and categories of many pictures in one file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.readers.forms import Drawn, Marked, Reader, Tagged, load_json


def recognises(content: Any) -> bool:
    """A mapping with COCO's three lists."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def read_tags(content: Mapping[str, Any], place: str) -> Tagged:
    """Category names a picture, in category order; a picture without annotations has none."""
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    present: dict[Any, set[Any]] = {image["id"]: set() for image in content["images"]}
    for annotation in content["annotations"]:
        present[annotation["image_id"]].add(annotation["category_id"])
    if strange := set().union(*present.values()) - names.keys():
        raise KeyError(f"category_id {min(strange)} is not among the categories")
    return [
        (image["file_name"], [name for key, name in names.items() if key in present[image["id"]]])
        for image in content["images"]
    ]


def read_marks(content: Mapping[str, Any], place: str) -> Marked:
    """The bbox of every annotation; a picture without annotations holds no class."""
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    boxes: dict[Any, list[tuple[str, float, float, float, float]]] = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        x, y, width, height = (float(value) for value in entry["bbox"])
        boxes[entry["image_id"]].append((names[entry["category_id"]], x, y, x + width, y + height))
    found = [(image["file_name"], boxes[image["id"]]) for image in content["images"]]
    return [(name, Drawn(WeakLabels(tags=None if mine else (), boxes=tuple(mine)))) for name, mine in found]


TAGS = Reader((".json",), load_json, recognises, read_tags, folders=False)
MARKS = Reader((".json",), load_json, recognises, read_marks)
