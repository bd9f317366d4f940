"""PASCAL Context's 459-class annotations (Mottaghi et al., CVPR 2014) as label maps of the 59 usual classes."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.eval.datasets.base import DatasetError
from clipseg_ws.eval.datasets.prepare_coco import decode, decoder
from clipseg_ws.eval.datasets.voc import CONTEXT_TREE

# The 59 classes among the 459, in the 459's (alphabetical) order, which is also the order of prompts/context.yaml.
CONTEXT_IDS = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98,
    104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308,
    324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip
Maps = list[tuple[str, Callable[[], np.ndarray]]]


def context_table() -> np.ndarray:
    """[460] uint8: class of the 459 -> 1…59, everything else 0 = background."""
    table = np.zeros(460, np.uint8)
    table[list(CONTEXT_IDS)] = np.arange(1, len(CONTEXT_IDS) + 1)
    return table


def context_maps(base: Path, source: str | Path | None) -> tuple[Maps, dict[str, list[str]]]:
    """(picture stem, function that makes its labels) and the split lists, from trainval_merged.json or ``*.mat`` files.

    ``source`` names either; without it ``base`` is searched. The .mat files know no splits.
    """
    for place in (
        [Path(source).expanduser()] if source is not None else [base / "trainval_merged.json", base / "trainval"]
    ):
        if place.is_file():
            return _from_json(place)
        if place.is_dir() and any(place.glob("*.mat")):
            files = sorted(place.glob("*.mat"))
            return [(path.stem, lambda path=path: _from_mat(path)) for path in files], {}  # type: ignore[misc]
    raise DatasetError(
        f"context: neither trainval_merged.json nor trainval/*.mat in {str(source or base)!r}; give one with --source; "
        f"expected:\n{CONTEXT_TREE}"
    )


def _from_mat(path: Path) -> np.ndarray:
    from scipy.io import loadmat

    content = loadmat(str(path))
    if "LabelMap" not in content:
        raise DatasetError(f"{str(path)!r} holds no LabelMap; PASCAL Context's trainval/*.mat are needed")
    return context_table()[np.asarray(content["LabelMap"], np.int64)]


def _from_json(path: Path) -> tuple[Maps, dict[str, list[str]]]:
    tool = decoder()
    content = json.loads(path.read_text("utf-8"))
    table = context_table()
    by_image: dict[Any, list[dict]] = defaultdict(list)
    for item in content["annos_segmentation"]:
        by_image[item["image_id"]].append(item)

    def draw(image: dict) -> np.ndarray:
        size = (image["height"], image["width"])
        labels = np.zeros(size, np.int64)
        for item in by_image[image["image_id"]]:
            labels[decode(tool, item["segmentation"], size)] = item["category_id"]
        return table[labels]

    images = sorted(content["images"], key=lambda image: image["file_name"])
    splits: dict[str, list[str]] = defaultdict(list)
    for image in images:
        splits[image["phase"]].append(Path(image["file_name"]).stem)
    maps = [(Path(image["file_name"]).stem, lambda image=image: draw(image)) for image in images]
    return maps, dict(splits)  # type: ignore[return-value]
