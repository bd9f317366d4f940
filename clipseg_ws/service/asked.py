"""A request's fields as a question to the Segmenter, and its result as what is sent back."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from typing import Any

from clipseg_ws.door import InputError
from clipseg_ws.door.documents import parse_json
from clipseg_ws.output.exchange import listed
from clipseg_ws.output.formats.coco import run_lengths
from clipseg_ws.output.formats.png import label_image
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.reading import decode_image
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.service.gate import Limits
from clipseg_ws.structures import WeakLabels
from clipseg_ws.text.known_names import describe_unknown
from clipseg_ws.text.vocabulary import parse_classes
from clipseg_ws.values import is_number
from clipseg_ws.weak.marks import mark_names
from clipseg_ws.web.names import parse_names

FORMATS = ("json", "png", "overlay")
MARKS = 1_000  # points, or boxes, of one request


@dataclass(frozen=True)
class Asked:
    """The fields of one request, as they came. ``classes`` "cat; person, people", or the name of a list; ``tags``
    "cat; dog": what is in the picture; ``points`` and ``boxes``: JSON."""

    classes: str = ""
    tags: str = ""
    points: str = ""
    boxes: str = ""
    format: str = "json"


@dataclass(frozen=True, eq=False)
class Answered:
    """The result, how long it took, and what the caller should know besides."""

    result: Segmentation
    seconds: float
    warnings: tuple[str, ...]


def answer(segmenter: Segmenter, data: bytes, name: str, asked: Asked, limits: Limits) -> Answered:
    """Segment one picture.

    Args:
        data: contents of the picture's file. name: of it, for errors.

    Raises:
        ValueError: no picture, no classes or too many, tags and marks that cannot be used; another format.
    """
    begin = time.perf_counter()
    if asked.format not in FORMATS:
        raise ValueError(f"format={asked.format!r:.40}; allowed: {', '.join(FORMATS)}")
    _, vocabulary = parse_names(asked.classes)
    count = 0 if vocabulary is None else len(vocabulary.names)
    if count > limits.names:
        raise ValueError(f"{count} classes; at most {limits.names} are taken")
    tags = _tags(asked.tags, limits)
    weak = _weak(asked, tags)
    if vocabulary is None and tags is None and weak is None and not segmenter.backbone.card.known_classes:
        raise ValueError("nothing to look for; give classes, for example classes=cat; person, people")
    picture = decode_image(data, name or "image", max_pixels=limits.pixels)
    spoken = None if tags is None else [tags]
    if weak is not None:
        spoken = [sorted(mark_names(weak))]
    question = segmenter.ask(vocabulary, tags=spoken)
    marks = None if weak is None else [weak]
    (result,) = segmenter.answer(question, [picture], tags=spoken if weak is None else None, marks=marks)
    said: tuple[str, ...] = ()
    if question.unknown:
        backbone = segmenter.backbone
        said = (describe_unknown(question.unknown, backbone.name, len(backbone.card.known_classes)),)
    return Answered(result, time.perf_counter() - begin, said)


def _tags(text: str, limits: Limits) -> list[str] | None:
    if not text.strip():
        return None
    names = list(parse_classes(text).names)
    if len(names) > limits.names:
        raise ValueError(f"{len(names)} tags; at most {limits.names} are taken")
    return names


def _weak(asked: Asked, tags: list[str] | None) -> WeakLabels | None:
    points = _marks(asked.points, "points", 2, '[["cat", 120, 80]]')
    boxes = _marks(asked.boxes, "boxes", 4, '[["cat", 10, 20, 200, 180]]')
    if not points and not boxes:
        return None
    return WeakLabels(
        None if tags is None else tuple(tags),
        tuple((name, a, b, c, d) for name, (a, b, c, d) in boxes), tuple((name, x, y) for name, (x, y) in points),
    )  # fmt: skip


def _marks(text: str, what: str, numbers: int, example: str) -> list[tuple[str, list[float]]]:
    """[[name, number, ...], ...] from JSON. Raises InputError for anything else."""
    if not text.strip():
        return []
    advice = f"for example {example}"
    try:
        rows = parse_json(text)
    except ValueError as error:
        raise InputError(f"{what}: no JSON: {error}", advice=advice) from error
    if not isinstance(rows, list) or len(rows) > MARKS:
        raise InputError(f"{what}: a list of at most {MARKS} is needed", advice=advice)
    found = []
    for row in rows:
        fits = isinstance(row, list) and len(row) == numbers + 1 and isinstance(row[0], str)
        if not fits or not all(is_number(value) for value in row[1:]):
            raise InputError(f"{what}: {json.dumps(row)[:80]} is no name with {numbers} numbers", advice=advice)
        found.append((row[0], [float(value) for value in row[1:]]))
    return found


def record(answered: Answered) -> dict[str, Any]:
    """The answer in JSON: the picture's size, a line a thing with its mask as COCO's run lengths."""
    result = answered.result
    height, width = result.labels.shape
    objects = []
    for thing in listed(result):
        score = result.scores.get(thing.name)
        pixels = int(thing.mask.sum())
        objects.append({
            "name": thing.name, "label": result.names.index(thing.name) + 1,
            "score": None if score is None else float(score), "confidence": thing.confidence, "pixels": pixels,
            "share": pixels / result.labels.size, "box": list(thing.box), "rle": run_lengths(thing.mask),
        })  # fmt: skip
    return {
        "width": width, "height": height, "names": list(result.names), "setting": result.setting, "objects": objects,
        "seconds": answered.seconds, "warnings": list(answered.warnings),
    }  # fmt: skip


def picture(answered: Answered, format: str) -> bytes:
    """PNG: the labels with VOC's palette ("png"), or the classes over the picture ("overlay")."""
    result = answered.result
    shown = result.overlay() if format == "overlay" else label_image(result.labels, len(result.names))
    buffer = io.BytesIO()
    shown.save(buffer, format="PNG")
    return buffer.getvalue()
