"""81-class label maps from COCO's instance annotations (polygons and run lengths, decoded by pycocotools)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.door.documents import read_mapping
from clipseg_ws.door.errors import reading
from clipseg_ws.door.pictures import check_size
from clipseg_ws.door.runs import decode_runs, draw_polygons
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.structures import IGNORE
from clipseg_ws.weak.collecting import warn_of
from clipseg_ws.weak.readers.forms import numbers


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
    file's order, later ones over earlier ones. ``empty``: pictures without annotation too. Annotations that cannot be
    drawn are left out with a warning that names them.
    """
    with reading(path, "an instances_*.json of COCO", advice="fetch it again"):
        return _maps(path, read_mapping(path), empty)


def _maps(path: Path, content: dict[str, Any], empty: bool) -> list[tuple[str, Callable[[], np.ndarray]]]:
    tool = decoder()
    for key in ("images", "annotations", "categories"):
        if key not in content:
            raise DatasetError(f"{str(path)!r} holds no {key}; an instances_*.json is needed")
    label = {category: i + 1 for i, category in enumerate(sorted(c["id"] for c in content["categories"]))}
    if len(label) > 254:
        raise DatasetError(f"{str(path)!r} has {len(label)} categories; 8-bit label maps hold 254")
    by_image, problems = _usable(content, label)
    warn_of([f"{path}, {problem}" for problem in problems], "left out")

    def draw(image: dict[str, Any]) -> np.ndarray:
        with reading(path, "an instances_*.json of COCO", advice="fetch it again"):
            return drawn(image)

    def drawn(image: dict[str, Any]) -> np.ndarray:
        width, height = check_size(image["width"], image["height"])
        size = (height, width)
        labels = np.zeros(size, np.uint8)
        wrong = []
        for item in sorted(by_image[image["id"]], key=lambda item: not item.get("iscrowd", 0)):  # stable
            if pieces := lost_pieces(item["segmentation"]):
                warn_of([f"{path}, {_called(item)}: {pieces}"], "left out")
            try:
                labels[decode(tool, item["segmentation"], size)] = label[item["category_id"]]
            except ValueError as error:
                wrong.append(f"{path}, {_called(item)}: {error}")
        warn_of(wrong, "left out")
        return np.full(size, IGNORE, np.uint8) if wrong and not labels.any() else labels  # nothing is known of it

    wanted = [image for image in content["images"] if empty or by_image[image["id"]]]
    named = sorted(((Path(image["file_name"]).stem, image) for image in wanted), key=lambda pair: pair[0])
    return [(stem, partial(draw, image)) for stem, image in named]


def _usable(content: Any, label: Mapping[Any, int]) -> tuple[dict[Any, list[dict[str, Any]]], list[str]]:
    """Annotations by picture, and what is wrong with those of no picture or category."""
    images = {image["id"] for image in content["images"]}
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    problems = []
    for item in content["annotations"]:
        if item.get("image_id") not in images:
            problems.append(f"{_called(item)}: image_id {item.get('image_id')!r} is not among the images")
        elif item.get("category_id") not in label:
            problems.append(f"{_called(item)}: category_id {item.get('category_id')!r} is not among the categories")
        elif not item.get("segmentation"):
            problems.append(f"{_called(item)}: no segmentation")
        else:
            by_image[item["image_id"]].append(item)
    return by_image, problems


def _called(item: Mapping[str, Any]) -> str:
    return f"annotation {item.get('id', '?')}"


def decode(tool: Any, segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """[H, W] bool of polygons, an uncompressed or a compressed run-length code. Raises ValueError naming the fault."""
    height, width = size
    if isinstance(segmentation, list):
        return draw_polygons(_polygons(segmentation), size).astype(bool)
    if not isinstance(segmentation, Mapping) or not {"size", "counts"} <= segmentation.keys():
        raise ValueError(f"segmentation {segmentation!r:.60} is neither polygons nor run lengths")
    return decode_runs(segmentation, (height, width)).astype(bool)


def lost_pieces(segmentation: Any) -> str:
    """What is said of pieces without three corners beside good ones; "" where there is none."""
    listed = isinstance(segmentation, list) and segmentation and isinstance(segmentation[0], (list, tuple))
    flat = [len(piece) for piece in segmentation if len(piece) < 6 or len(piece) % 2] if listed else []
    if not flat or len(flat) == len(segmentation):
        return ""
    return f"{len(flat)} of {len(segmentation)} pieces have no three corners ({', '.join(map(str, flat[:3]))} numbers)"


def _polygons(segmentation: list[Any]) -> list[list[float]]:
    """The pieces that enclose something; a polygon that is not in a list of its own is one. Raises ValueError."""
    pieces = segmentation if isinstance(segmentation[0], (list, tuple)) else [segmentation]
    kept = [list(numbers(piece)) for piece in pieces if len(piece) >= 6 and len(piece) % 2 == 0]
    if not kept:
        raise ValueError(f"no polygon with three corners in {segmentation!r:.60}")
    return kept
