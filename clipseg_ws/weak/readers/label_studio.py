"""Label Studio's JSON export: a list of tasks, one a picture, each with annotations made of regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.readers.forms import Drawn, Marked, Reader, load_json


def recognises(content: Any) -> bool:
    """A list."""
    return isinstance(content, list)


def read_marks(content: Sequence[Mapping[str, Any]], place: str) -> Marked:
    """The last annotation of every task; tasks that nobody has looked at are left out."""
    found: Marked = []
    for task in content:
        image = _picture_name(task)
        annotations = [a for a in task.get("annotations", ()) if not a.get("was_cancelled")]
        if not annotations:
            continue  # nobody has looked at it yet
        found.append((image, _regions(annotations[-1]["result"], image)))
    return found


def _regions(regions: Sequence[Mapping[str, Any]], image: str) -> Drawn:
    """Boxes, points and tags of one annotation; coordinates are percentages of the picture."""
    boxes: list[tuple[str, float, float, float, float]] = []
    points: list[tuple[str, float, float]] = []
    tags: list[str] = []
    for region in regions:
        kind, value = region["type"], region["value"]
        if kind == "choices":
            tags += value["choices"]
            continue
        _check_region(region, image)
        sx, sy = region["original_width"] / 100, region["original_height"] / 100
        x, y = value["x"] * sx, value["y"] * sy
        for name in value[kind]:
            if kind == "keypointlabels":
                points.append((name, x, y))
            else:
                boxes.append((name, x, y, x + value["width"] * sx, y + value["height"] * sy))
    known = tuple(tags) if tags or not regions else None
    return Drawn(WeakLabels(tags=known, boxes=tuple(boxes), points=tuple(points)))


def _check_region(region: Mapping[str, Any], image: str) -> None:
    """Raise ValueError for what is neither an upright box nor a point."""
    kind = region["type"]
    if kind not in ("rectanglelabels", "keypointlabels"):
        hint = "; brush masks are masks already: use the picture as a support" if kind == "brushlabels" else ""
        allowed = "rectanglelabels, keypointlabels, choices"
        raise ValueError(f"picture {image!r} has a region of type {kind!r}; allowed: {allowed}{hint}")
    if float(region["value"].get("rotation") or 0) or float(region.get("image_rotation") or 0):
        raise ValueError(f"picture {image!r} has a rotated region; only upright ones are marks")


def _picture_name(task: Mapping[str, Any]) -> str:
    """The picture's path in a task: "/data/local-files/?d=photos/a.jpg" -> "photos/a.jpg", URLs -> their last part."""
    data = task["data"]
    location: str = data["image"] if "image" in data else next(v for v in data.values() if isinstance(v, str))
    parts = urlsplit(location)
    if local := parse_qs(parts.query).get("d"):
        return local[0]
    return unquote(parts.path).rsplit("/", 1)[-1] if parts.scheme or location.startswith("/") else location


MARKS = Reader((".json",), load_json, recognises, read_marks)
