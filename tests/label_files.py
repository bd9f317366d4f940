"""Small label files as people's tools write them, for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image


def picture(path: Path, size: tuple[int, int] = (112, 112), **options: Any) -> Path:
    """A grey picture of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "gray").save(path, **options)
    return path


def write(path: Path, content: Any, encoding: str = "utf-8") -> Path:
    """Text as it is, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    path.write_bytes(text.encode(encoding))
    return path


def shape(kind: str, points: Any, label: Any = "tree") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


def labelme(*shapes: dict[str, Any], image: str | None = "a.png", size: tuple[int, int] | None = (112, 112)) -> dict:
    wide, high = size or (None, None)
    content = {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imageHeight": high, "imageWidth": wide}
    return content if image is None else content | {"imagePath": image, "imageData": None}


BOX = shape("rectangle", [[10, 20], [50, 60]])


def coco(annotations: list[dict[str, Any]], images: list[tuple[str, int, int]] | None = None) -> dict[str, Any]:
    """``images``: (file name, width, height), ids from 7 on; categories 3 tree and 90 mushroom."""
    listed = images or [("sub/a.png", 112, 112), ("b.png", 112, 112)]
    return {
        "images": [{"id": 7 + i, "file_name": n, "width": w, "height": h} for i, (n, w, h) in enumerate(listed)],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "tree"}, {"id": 90, "name": "mushroom"}],
    }


def annotation(image: Any = 7, category: int = 3, box: Any = (10, 20, 30, 40), **more: Any) -> dict[str, Any]:
    return {"id": 1, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0, "segmentation": []} | more


def voc(*objects: str, size: tuple[int, int] = (112, 112), filename: str = "a.png") -> str:
    head = f"<filename>{filename}</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation>{head}{''.join(objects)}</annotation>"


def voc_object(x0: Any, y0: Any, x1: Any, y1: Any, name: str = "tree") -> str:
    box = f"<xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
    return f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"


def region(label: tuple[str, ...] | None = ("tree",), kind: str = "rectanglelabels", **value: Any) -> dict[str, Any]:
    """A Label Studio region: 11.2, 22.4, 44.8, 67.2 in pixels."""
    where = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0} | value
    where |= {} if label is None else {kind: list(label)}
    return {
        "original_width": 112,
        "original_height": 112,
        "image_rotation": 0,
        "id": "r1",
        "type": kind,
        "value": where,
    }


def task(*regions: dict[str, Any], image: str = "a.png", **more: Any) -> dict[str, Any]:
    return {"id": 1, "annotations": [{"id": 1, "result": list(regions)}], "data": {"image": image}} | more


STUDIO_BOX = (("tree", 11.2, 22.4, 44.8, 67.2),)
