"""Label Studio's JSON exports (JSON, JSON-MIN, and old ones with "completions"): tasks, one a picture, with regions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.names import split_suffix
from clipseg_ws.weak.readers.brush import decode_brush
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
    turned_corners,
)
from clipseg_ws.weak.written import Name

_SHAPES = ("rectanglelabels", "keypointlabels", "polygonlabels", "ellipselabels", "brushlabels")
_PLAIN = tuple(kind.removesuffix("labels") for kind in _SHAPES)  # their labels stand in a region of their own
_ALLOWED = f"{', '.join(_SHAPES)}, choices"
_OTHERS = ("vector", "bitmask", "hypertext", "paragraph", "timeseries", "video")


def recognises(content: Any) -> bool:
    """A list of tasks: with "data", or (JSON-MIN) a picture's name beside lists of regions."""
    tasks = content if isinstance(content, list) else None
    return tasks is not None and all(isinstance(t, dict) and ("data" in t or _minimal(t)) for t in tasks[:5])


def _minimal(task: Mapping[str, Any]) -> bool:
    return isinstance(task.get("id"), int) and any(isinstance(value, str) for value in task.values())


def read_marks(content: Sequence[Mapping[str, Any]], place: str) -> Marked:
    """The last annotation of every task; tasks that nobody has looked at are left out."""
    found: Marked = []
    for task in content:
        regions = _last_annotation(task) if "data" in task else list(_minimal_regions(task))
        if regions is not None:
            found.append(_regions(regions, _picture_name(task), f"task {task.get('id', '?')}"))
    return found


def _last_annotation(task: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """The regions of the last annotation; None where nobody has looked at the task yet: predictions are no labels."""
    given = task.get("annotations") or task.get("completions") or ()
    annotations = [a for a in given if not (a.get("was_cancelled") or a.get("skipped"))]
    return annotations[-1]["result"] if annotations else None


def _minimal_regions(task: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """JSON-MIN as regions of the long form."""
    for key, value in task.items():
        for item in value if isinstance(value, list) else ():
            kind = next((k for k in item if k.endswith("labels")), None) if isinstance(item, dict) else None
            if kind is not None:
                yield {"type": kind, "value": item} | {k: item[k] for k in item if k.startswith("original_")}
        choices = value.get("choices") if isinstance(value, dict) else [value] if key == "choice" else None
        if choices:
            yield {"type": "choices", "value": {"choices": choices}}


def _regions(regions: Sequence[Mapping[str, Any]], name: Name, row: str) -> Found[Drawn | Path]:
    """Boxes, points and tags of one annotation; coordinates stay per cent of the picture."""
    boxes: list[Box] = []
    points: list[tuple[str, float, float]] = []
    tags: list[str] = []
    bad: list[str] = []
    skipped: Counter[str] = Counter()
    shapes = {region.get("id") for region in regions if _is_shape(region)} - {None}
    for region in regions:
        kind, value = str(region.get("type")), region.get("value") or {}
        if kind == "choices" and not _is_shape(region) and region.get("id") not in shapes:
            tags += value["choices"]
            continue
        _check_kind(region, str(name))
        labels = value.get("labels" if kind == "labels" else kind) if kind in (*_SHAPES, "labels") else None
        if not labels:
            if kind not in _PLAIN:
                skipped[f"{kind} without a label" if kind in (*_SHAPES, "labels") else kind] += 1
            continue
        try:
            corners = _corners(region, value)
        except ValueError as error:
            bad.append(f"{row}, region {region.get('id', '?')} ({kind} {', '.join(labels)}): {error}")
            continue
        boxes += [around(label, corners) for label in labels if len(corners) > 1]
        points += [(label, *corners[0]) for label in labels if len(corners) == 1]
    drawn = bool(boxes or points)
    known = tuple(tags) if tags or not drawn else None
    hollow = not drawn and not tags and (bad or any("without" in kind for kind in skipped))
    size = next((s for r in regions if (s := stated_size(r.get("original_height"), r.get("original_width")))), None)
    content = Drawn(WeakLabels(tags=known, boxes=tuple(boxes), points=tuple(points)), size=size, percent=True)
    problems = [*bad, *(f"{row}: {count} x {kind}" for kind, count in skipped.items())]
    return Found(name, None if hollow else content, tuple(problems))


def _is_shape(region: Mapping[str, Any]) -> bool:
    return not {"x", "points", "rle"}.isdisjoint(region.get("value") or {})


def _check_kind(region: Mapping[str, Any], image: str) -> None:
    """Raise ValueError for a shape around which no box can be drawn."""
    if (kind := str(region.get("type"))).startswith(_OTHERS):
        raise ValueError(f"picture {image!r} has a region of type {kind!r}; allowed: {_ALLOWED}")


def _corners(region: Mapping[str, Any], value: Mapping[str, Any]) -> list[tuple[float, float]]:
    """One corner of a point, more of a shape, in per cent. Raises ValueError for what is no number."""
    if float(region.get("image_rotation") or 0):
        raise ValueError("the picture was turned in Label Studio; turn it back there, or turn the file")
    if "points" in value:
        outline = [(x, y) for x, y in (numbers(pair) for pair in value["points"])]
        if len(outline) < 3:
            raise ValueError(f"{len(outline)} points; a polygon needs at least 3")
        return outline
    if "rle" in value:
        return _brush_corners(value["rle"], stated_size(region.get("original_height"), region.get("original_width")))
    if "radiusX" in value:
        x, y, rx, ry = numbers(value.get(key) for key in ("x", "y", "radiusX", "radiusY"))
        return _ellipse_corners(x, y, rx, ry, float(value.get("rotation") or 0), region)
    if "height" not in value:
        x, y = numbers((value.get("x"), value.get("y")))
        return [(x, y)]
    x, y, width, height = numbers(value.get(key) for key in ("x", "y", "width", "height"))
    tall, wide = stated_size(region.get("original_height"), region.get("original_width")) or (1, 1)
    sx, sy = wide / 100, tall / 100
    if not (angle := float(value.get("rotation") or 0)):
        return [(x, y), (x + width, y + height)]
    turned = turned_corners(x * sx, y * sy, width * sx, height * sy, angle)
    return [(a / sx, b / sy) for a, b in turned]


def _brush_corners(rle: Any, size: tuple[int, int] | None) -> list[tuple[float, float]]:
    """Two corners of the box around a brush mask, in per cent."""
    if size is None:
        raise ValueError("a brush mask needs original_width and original_height")
    rows, columns = np.nonzero(decode_brush(rle, size))
    if not len(rows):
        raise ValueError("an empty brush mask")
    (y0, y1), (x0, x1) = ((int(line.min()), int(line.max()) + 1) for line in (rows, columns))
    return [(100 * x0 / size[1], 100 * y0 / size[0]), (100 * x1 / size[1], 100 * y1 / size[0])]


def _ellipse_corners(
    x: float, y: float, rx: float, ry: float, degrees: float, region: Mapping[str, Any]
) -> list[tuple[float, float]]:
    """Two corners of the box around an ellipse that is turned around its middle, in per cent."""
    tall, wide = stated_size(region.get("original_height"), region.get("original_width")) or (1, 1)
    a, b, turn = rx * wide, ry * tall, math.radians(degrees)
    half = math.hypot(a * math.cos(turn), b * math.sin(turn)) / wide
    high = math.hypot(a * math.sin(turn), b * math.cos(turn)) / tall
    return [(x - half, y - high), (x + half, y + high)]


def _picture_name(task: Mapping[str, Any]) -> Name:
    """The picture's path in a task: "/data/local-files/?d=photos/a.jpg" -> "photos/a.jpg", URLs as they are."""
    data = task.get("data", task)
    texts = [value for value in data.values() if isinstance(value, str)]
    pictures = [t for t in texts if split_suffix(urlsplit(t).path)[1] or "?d=" in t]
    location = data["image"] if isinstance(data.get("image"), str) else (pictures or texts)[0]
    row = f"task {task.get('id', '?')}"
    if local := parse_qs(urlsplit(location).query).get("d"):
        return Name((local[0],), row=row)
    if location.startswith("/"):  # /data/upload/1/8e5f0b1c-a.png: folders of the server
        location = unquote(location).rsplit("/", 1)[-1]
    return Name((location,), row=row)


MARKS = Reader((".json",), load_json, recognises, read_marks)
