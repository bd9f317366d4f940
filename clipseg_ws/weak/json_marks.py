"""Marks in JSON as annotation tools write them: COCO, LabelMe, Label Studio. What ``weak_marks`` builds on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from clipseg_ws.structures import WeakLabels

JSON_FORMS = "COCO json, LabelMe json, Label Studio json"


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a file says of one picture: marks, and lines that are not drawn yet.

    Attributes:
        marks: tags, boxes and points with names as written. lines: (name, corners (x, y)).
        size: (H, W) of the picture where the file knows it.
    """

    marks: WeakLabels
    lines: tuple[tuple[str, tuple[tuple[float, float], ...]], ...] = ()
    size: tuple[int, int] | None = None


def read_json_marks(path: Path, place: str) -> list[tuple[str, Drawn]]:
    """(picture name, what is drawn) of one file; ``place`` names the picture of a LabelMe file.

    Raises ValueError: not JSON, none of the known forms, or a shape that is no mark.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # not JSON, not UTF-8
        raise ValueError(f"{str(path)!r} is not JSON: {error}") from error
    try:
        return _reader(content)(content, place)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{str(path)!r} is none of the known forms ({error!r}); allowed: {JSON_FORMS}") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error


def _reader(content: Any) -> Callable[[Any, str], list[tuple[str, Drawn]]]:
    if isinstance(content, list):
        return _label_studio
    if {"images", "annotations", "categories"} <= content.keys():
        return _coco
    if "shapes" in content:
        return _labelme
    raise KeyError(f"keys {', '.join(sorted(content))[:80]}")


def _coco(content: Mapping[str, Any], place: str) -> list[tuple[str, Drawn]]:
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    boxes: dict[Any, list[tuple[str, float, float, float, float]]] = {image["id"]: [] for image in content["images"]}
    for entry in content["annotations"]:
        x, y, width, height = (float(value) for value in entry["bbox"])
        boxes[entry["image_id"]].append((names[entry["category_id"]], x, y, x + width, y + height))
    found = [(image["file_name"], boxes[image["id"]]) for image in content["images"]]
    return [(name, Drawn(WeakLabels(tags=None if mine else (), boxes=tuple(mine)))) for name, mine in found]


def _labelme(content: Mapping[str, Any], place: str) -> list[tuple[str, Drawn]]:
    boxes, points, lines = [], [], []
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


def _label_studio(content: Sequence[Mapping[str, Any]], place: str) -> list[tuple[str, Drawn]]:
    found = []
    for task in content:
        image = _picture_name(task)
        annotations = [a for a in task.get("annotations", ()) if not a.get("was_cancelled")]
        if not annotations:
            continue  # nobody has looked at it yet
        regions = annotations[-1]["result"]  # the last annotation stands
        found.append((image, _label_studio_regions(regions, image)))
    return found


def _label_studio_regions(regions: Sequence[Mapping[str, Any]], image: str) -> Drawn:
    """Boxes, points and tags of one annotation; coordinates are percentages of the picture."""
    boxes, points, tags = [], [], []
    for region in regions:
        kind, value = region["type"], region["value"]
        if kind == "choices":
            tags += value["choices"]
            continue
        if kind not in ("rectanglelabels", "keypointlabels"):
            hint = "; brush masks are masks already: use the picture as a support" if kind == "brushlabels" else ""
            allowed = "rectanglelabels, keypointlabels, choices"
            raise ValueError(f"picture {image!r} has a region of type {kind!r}; allowed: {allowed}{hint}")
        if float(value.get("rotation") or 0) or float(region.get("image_rotation") or 0):
            raise ValueError(f"picture {image!r} has a rotated region; only upright ones are marks")
        sx, sy = region["original_width"] / 100, region["original_height"] / 100
        x, y = value["x"] * sx, value["y"] * sy
        for name in value[kind]:
            if kind == "keypointlabels":
                points.append((name, x, y))
            else:
                boxes.append((name, x, y, x + value["width"] * sx, y + value["height"] * sy))
    known = tuple(tags) if tags or not regions else None
    return Drawn(WeakLabels(tags=known, boxes=tuple(boxes), points=tuple(points)))


def _picture_name(task: Mapping[str, Any]) -> str:
    """The picture's path in a task: "/data/local-files/?d=photos/a.jpg" -> "photos/a.jpg", URLs -> their last part."""
    data = task["data"]
    location = data["image"] if "image" in data else next(v for v in data.values() if isinstance(v, str))
    parts = urlsplit(location)
    if local := parse_qs(parts.query).get("d"):
        return local[0]
    return unquote(parts.path).rsplit("/", 1)[-1] if parts.scheme or location.startswith("/") else location
