"""COCO: one json for a whole folder ("coco"), or one for each picture ("rle"). Run lengths need the extra ``coco``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.files import atomic_write, write_text
from clipseg_ws.output.formats.record import plain
from clipseg_ws.output.items import Items, Labels, Mask, class_masks, parts_of
from clipseg_ws.output.outlines import polygons
from clipseg_ws.structures import Result

STYLES = ("rle", "polygons")


def write_coco(
    path: str | Path, items: Items, names: Sequence[str], *, style: str = "rle", components: bool = False
) -> int:
    """One COCO json for many pictures, written as the items come; returns the number of annotations.

    ``style`` and ``components`` as for ``coco_annotations``; an annotation an instance where an item has instances.
    """
    images, count = [], 0
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        for image_id, item in enumerate(items, start=1):
            height, width = item.labels.shape
            images.append({"id": image_id, "file_name": item.name, "width": width, "height": height})
            entries = coco_annotations(
                item.labels, names, image_id=image_id, first_id=count + 1, style=style, components=components,
                instances=item.instances,
            )  # fmt: skip
            for entry in entries:
                file.write((",\n" if count else "\n") + json.dumps(entry))
                count += 1
        categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        file.write(f'\n],\n"images": {json.dumps(images)},\n"categories": {json.dumps(categories)}}}\n')
    return count


def coco_annotations(
    labels: Labels, names: Sequence[str], *, image_id: int = 1, first_id: int = 1, style: str = "rle",
    components: bool = False, scores: Mapping[str, float] | None = None, instances: Labels | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """COCO annotations of one picture; category i + 1 is ``names[i]``, pixels labelled 255 belong to none.

    Args:
        style: "rle", the compressed run lengths of pycocotools (extra ``[coco]``); "polygons", exact outlines, one
            list of x, y a region, holes cut in by bridges.
        components: an annotation for every 4-connected region instead of one for every class that occurs.
        scores: name -> image-level score, written into the annotations of that class.
        instances: [H, W] integer, 0 for none: an annotation for every instance of every class (pixels of a class
            without an instance make one more).

    Raises:
        ValueError: an unknown style, labels that are no label map of these names, instances of another size.
    """
    check_style(style)
    if instances is not None and instances.shape != labels.shape:
        raise ValueError(f"instances are {list(instances.shape)}, the labels {list(labels.shape)}")
    annotations: list[dict[str, Any]] = []
    for category, mask in class_masks(labels, names):
        for part in parts_of(mask, instances, components):
            head = {"id": first_id + len(annotations), "image_id": image_id, "category_id": category, "iscrowd": 0}
            entry = head | _measured(part, style)
            if scores is not None and names[category - 1] in scores:
                entry["score"] = float(scores[names[category - 1]])
            annotations.append(entry)
    return annotations


def check_style(style: str, components: bool = False) -> None:
    """Raise ValueError for a style that is none of ``STYLES``."""
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; allowed: {', '.join(STYLES)}, e.g. 'rle'")


def _measured(part: Mask, style: str) -> dict[str, Any]:
    """Area, box (left, top, width, height) and outline of a mask that is not empty."""
    rows, columns = np.nonzero(part.any(1))[0], np.nonzero(part.any(0))[0]
    left, top = int(columns[0]), int(rows[0])
    return {
        "area": int(part.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "segmentation": run_lengths(part) if style == "rle" else [p.ravel().tolist() for p in polygons(part)],
    }


def run_lengths(mask: Mask) -> dict[str, Any]:
    """pycocotools' compressed run lengths of a bool mask [H, W], JSON-able. Raises ImportError without the extra."""
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise ImportError("COCO run lengths need pycocotools: pip install 'clipseg_ws[coco]'") from error
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def picture_coco(result: Result, *, style: str = "rle", instances: Labels | None = None) -> dict[str, Any]:
    """A whole COCO json of one picture: "images", "annotations" (with scores), "categories"; JSON-able.

    ``style`` and ``instances`` as for ``coco_annotations``.
    """
    height, width = result.labels.shape
    name = Path(result.source).name if result.source else ""
    annotations = coco_annotations(
        result.labels, result.names, style=style, scores=result.scores, instances=instances
    )  # fmt: skip
    content = {
        "images": [{"id": 1, "file_name": name, "width": width, "height": height}],
        "annotations": annotations,
        "categories": [{"id": label, "name": name} for label, name in enumerate(result.names, start=1)],
    }
    made: dict[str, Any] = plain(content)
    return made


def write_rle(result: Result, path: Path, files: Sequence[str]) -> None:
    """COCO json of one picture: one annotation with compressed run lengths for every class that occurs."""
    content = picture_coco(result)
    for entry in content["annotations"]:
        entry["bbox"] = [float(side) for side in entry["bbox"]]
        entry["score"] = entry.get("score")
    write_text(path, json.dumps(content, ensure_ascii=False) + "\n")
