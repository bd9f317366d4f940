"""Exact outlines of one picture as LabelMe reads them, to be corrected by people."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipseg_ws.files import write_text
from clipseg_ws.output.items import class_masks
from clipseg_ws.output.outlines import polygons
from clipseg_ws.pictures.sources import is_url
from clipseg_ws.structures import Result

LABELME = "5.5.0"  # the version whose layout this is


def write(result: Result, path: Path, files: Sequence[str]) -> None:
    """LabelMe json: a polygon (x, y in pixel borders) for every 4-connected region, holes cut in by bridges.

    ``imagePath`` leads from the json's folder to the picture, so that LabelMe finds it.
    """
    height, width = result.labels.shape
    shapes: list[dict[str, Any]] = []
    for label, mask in class_masks(result.labels, result.names):
        for corners in polygons(mask):
            shape = {"label": result.names[label - 1], "points": corners.tolist(), "group_id": None, "description": ""}
            shapes.append(shape | {"shape_type": "polygon", "flags": {}})
    content = {
        "version": LABELME,
        "flags": {},
        "shapes": shapes,
        "imagePath": _image_path(result.source, path),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def _image_path(source: str | None, path: Path) -> str:
    if source is None or is_url(source):
        return source or ""
    try:
        return Path(os.path.relpath(source, path.parent)).as_posix()
    except ValueError:  # another drive
        return Path(source).absolute().as_posix()
