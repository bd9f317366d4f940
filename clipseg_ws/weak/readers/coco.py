"""COCO's JSON: images, annotations and categories of many pictures in one file; instances, keypoints, panoptic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.readers.forms import (
    Box,
    Drawn,
    Found,
    Marked,
    Reader,
    Tagged,
    around,
    load_json,
    numbers,
    stated_size,
)
from clipseg_ws.weak.written import Name


def recognises(content: Any) -> bool:
    """A mapping with COCO's three lists."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


@dataclass
class _Image:
    """What was found of one picture."""

    name: Name
    size: tuple[int, int] | None
    categories: set[Any] = field(default_factory=set)
    boxes: list[Box] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_tags(content: Mapping[str, Any], place: str) -> Tagged:
    """Category names a picture, in category order; a picture without annotations has none."""
    images, orphans, names = _sorted(content, boxes=False)
    found: Tagged = [Found(image.name, _present(image, names), tuple(image.problems)) for image in images]
    return found + ([Found(None, None, tuple(orphans))] if orphans else [])


def _present(image: _Image, names: Mapping[Any, str]) -> list[str] | None:
    """None where annotations are there but none of them can be used."""
    mine = [name for key, name in names.items() if key in image.categories]
    return mine if mine or not image.problems else None


def read_marks(content: Mapping[str, Any], place: str) -> Marked:
    """The bbox of every annotation, or the box around its segmentation; pictures without annotations hold no class."""
    images, orphans, _ = _sorted(content, boxes=True)
    found: Marked = []
    for image in images:
        marks = WeakLabels(tags=None if image.boxes else (), boxes=tuple(image.boxes))
        usable = image.boxes or not image.problems
        found.append(Found(image.name, Drawn(marks, size=image.size) if usable else None, tuple(image.problems)))
    return found + ([Found(None, None, tuple(orphans))] if orphans else [])


def _sorted(content: Mapping[str, Any], boxes: bool) -> tuple[list[_Image], list[str], dict[Any, str]]:
    """Pictures with what is in them, problems of annotations that belong to none, and category names by id."""
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    images = {
        image["id"]: _Image(
            Name((image["file_name"],), row=f"image {image['id']}"),
            stated_size(image.get("height"), image.get("width")),
        )
        for image in content["images"]
    }
    by_text = {str(key): key for key in images}  # ids as text, or as 7.0
    orphans: list[str] = []
    for number, entry in _entries(content["annotations"]):
        where = f"annotation {entry.get('id', f'number {number}')}"
        key = entry.get("image_id")
        key = key if key in images else by_text.get(str(key))
        if key is None:
            orphans.append(f"{where}: image_id {entry.get('image_id')!r} is not among the images")
            continue
        image, category = images[key], entry.get("category_id")
        if category not in names:
            image.problems.append(f"{where}: category_id {category!r} is not among the categories")
            continue
        image.categories.add(category)
        if boxes:
            try:
                image.boxes.append(_box(entry, names[category]))
            except ValueError as error:
                image.problems.append(f"{where} ({names[category]}): {error}")
    return list(images.values()), orphans, names


def _entries(annotations: Any) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """All annotations with their number; the segments of a panoptic one in its place."""
    for number, entry in enumerate(annotations, 1):
        if "segments_info" in entry:
            for segment in entry["segments_info"]:
                yield number, {"image_id": entry.get("image_id")} | segment
        else:
            yield number, entry


def _box(entry: Mapping[str, Any], name: str) -> Box:
    """Raises ValueError where there is neither a bbox nor a segmentation."""
    given = entry.get("bbox")
    if given is None or (isinstance(given, (list, tuple)) and not given):
        return _box_of_segmentation(entry.get("segmentation"), name)
    values = numbers(given if isinstance(given, (list, tuple)) else [given])
    if len(values) != 4:
        raise ValueError(f"bbox {given!r} has {len(values)} numbers; x, y, width, height are needed")
    x, y, width, height = values
    if width < 0 or height < 0:
        raise ValueError(f"bbox {given!r} has a negative side; x, y, width, height are needed")
    return (name, x, y, x + width, y + height)


def _box_of_segmentation(segmentation: Any, name: str) -> Box:
    if isinstance(segmentation, Mapping) and isinstance(segmentation.get("counts"), list):
        return _box_of_counts(segmentation, name)
    if isinstance(segmentation, list) and segmentation:
        pieces = segmentation if isinstance(segmentation[0], (list, tuple)) else [segmentation]
        values = numbers(value for piece in pieces for value in piece)
        if values and len(values) % 2 == 0:
            return around(name, zip(values[::2], values[1::2], strict=True))
    raise ValueError("no bbox, and no segmentation to draw one around")


def _box_of_counts(code: Mapping[str, Any], name: str) -> Box:
    """Run lengths go down the columns, background first."""
    height, columns, rows, at = int(code["size"][0]), set(), set(), 0
    for number, count in enumerate(code["counts"]):
        if number % 2 and count:
            columns |= {at // height, (at + count - 1) // height}
            whole = count >= height or at // height != (at + count - 1) // height
            rows |= {0, height - 1} if whole else {at % height, (at + count - 1) % height}
        at += count
    if not columns:
        raise ValueError("no bbox, and an empty segmentation")
    return (name, min(columns), min(rows), max(columns) + 1, max(rows) + 1)


TAGS = Reader((".json",), load_json, recognises, read_tags, folders=False)
MARKS = Reader((".json",), load_json, recognises, read_marks)
