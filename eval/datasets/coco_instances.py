"""81-class label maps from COCO's instance annotations (polygons and run lengths, decoded by pycocotools)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.eval.datasets.files import DatasetError


def decoder() -> Any:
    """``pycocotools.mask``. Raises ImportError naming the extra."""
    try:
        from pycocotools import mask
    except ImportError as error:
        raise ImportError("COCO annotations need pycocotools: pip install 'clipseg_ws[coco]'") from error
    return mask


def coco_maps(path: Path, *, empty: bool) -> list[tuple[str, Callable[[], np.ndarray]]]:
    """(picture stem, function that draws its [H, W] uint8 labels) of an ``instances_*.json``, in order of the stems.

    Labels 1…80 follow the category ids in ascending order. Crowd regions are drawn first, then the objects in the
    file's order, later ones over earlier ones. ``empty``: pictures without annotation too.
    """
    tool = decoder()
    content = json.loads(path.read_text("utf-8"))
    for key in ("images", "annotations", "categories"):
        if key not in content:
            raise DatasetError(f"{str(path)!r} holds no {key}; an instances_*.json is needed")
    label = {category: i + 1 for i, category in enumerate(sorted(c["id"] for c in content["categories"]))}
    if len(label) > 254:
        raise DatasetError(f"{str(path)!r} has {len(label)} categories; 8-bit label maps hold 254")
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for item in content["annotations"]:
        by_image[item["image_id"]].append(item)

    def draw(image: dict[str, Any]) -> np.ndarray:
        size = (image["height"], image["width"])
        labels = np.zeros(size, np.uint8)
        for item in sorted(by_image[image["id"]], key=lambda item: not item.get("iscrowd", 0)):  # stable
            labels[decode(tool, item["segmentation"], size)] = label[item["category_id"]]
        return labels

    wanted = [image for image in content["images"] if empty or by_image[image["id"]]]
    named = sorted(((Path(image["file_name"]).stem, image) for image in wanted), key=lambda pair: pair[0])
    return [(stem, partial(draw, image)) for stem, image in named]


def decode(tool: Any, segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """[H, W] bool of polygons, an uncompressed or a compressed run-length code."""
    height, width = size
    if isinstance(segmentation, list):
        code = tool.merge(tool.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        code = tool.frPyObjects(segmentation, height, width)
    else:
        code = segmentation
    return np.asarray(tool.decode(code), bool)
