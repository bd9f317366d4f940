"""PASCAL Context (context60, context59): its layout, and the 59 usual classes from the 459-class annotations."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.door.documents import read_mapping
from clipseg_ws.door.errors import reading
from clipseg_ws.door.pictures import check_size
from clipseg_ws.door.plain import regular, user_path
from clipseg_ws.eval.datasets import official_count
from clipseg_ws.eval.datasets.coco_instances import decode, decoder
from clipseg_ws.eval.datasets.dataset import Dataset, vocabulary_of
from clipseg_ws.eval.datasets.files import (
    DatasetError,
    beside,
    check_files,
    find_root,
    lookup,
    need,
    read_list,
    read_truth,
    unrotated,
    write_list,
)
from clipseg_ws.eval.datasets.prepare import Maps, Plan
from clipseg_ws.eval.guard import Setting

TREE = """  VOC2010/  (or VOCdevkit/VOC2010/)
    JPEGImages/<id>.jpg
    SegmentationClassContext/<id>.png    labels 0…59, 0 = background: clipseg-ws eval prepare context
    ImageSets/SegmentationContext/{train,val}.txt"""
HINT = "made by: clipseg-ws eval prepare context"
# The 59 classes among the 459, in the 459's (alphabetical) order, which is also the order of prompts/context.yaml.
CONTEXT_IDS = (
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98,
    104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308,
    324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
)  # fmt: skip


def context(name: str, root: str | Path, split: str | None, setting: Setting, prompts: str | None = None) -> Dataset:
    """``context60`` (59 classes and background) and ``context59`` (background ignored)."""
    split = split or "val"
    base = find_root(root, name, "JPEGImages", ("VOC2010", "VOCdevkit/VOC2010"), TREE)
    ids = read_list(need(base / "ImageSets" / "SegmentationContext" / f"{split}.txt", name, TREE, HINT))
    masks = need(base / "SegmentationClassContext", name, TREE, HINT)
    check_files(ids, [(base / "JPEGImages", ".jpg"), (masks, ".png")], name, TREE, HINT)
    table = lookup({i: i for i in range(0 if name == "context60" else 1, 60)})
    return Dataset(
        name, split, setting, vocabulary_of(prompts or "context", 59, background=name == "context60"), ids,
        image=lambda id: unrotated(base / "JPEGImages" / f"{id}.jpg"),
        truth=lambda id: read_truth(masks / f"{id}.png", table),
        files=beside((base / "JPEGImages", ".jpg"), (masks, ".png")),
        background=name == "context60", prompts=prompts or "context", root=base, expected=official_count(name, split),
    )  # fmt: skip


def prepared(root: Path, source: str | Path | None) -> Plan:
    """``context``: SegmentationClassContext and, from the JSON, the split lists. ``source``: a JSON or a folder."""
    base = find_root(root, "context", "JPEGImages", ("VOC2010", "VOCdevkit/VOC2010"), TREE)
    maps, splits = context_maps(base, source)
    lists = base / "ImageSets" / "SegmentationContext"

    def finish() -> None:
        for split, ids in splits.items():
            if not (lists / f"{split}.txt").exists():
                write_list(lists / f"{split}.txt", ids)

    return [(base / "SegmentationClassContext" / f"{stem}.png", make) for stem, make in maps], finish


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
        [user_path(source)] if source is not None else [base / "trainval_merged.json", base / "trainval"]
    ):
        if place.is_file():
            return _from_json(place)
        if place.is_dir() and any(place.glob("*.mat")):
            files = sorted(place.glob("*.mat"))
            return [(path.stem, partial(_from_mat, path)) for path in files], {}
    raise DatasetError(
        f"context: neither trainval_merged.json nor trainval/*.mat in {str(source or base)!r}; give one with --source; "
        f"expected:\n{TREE}"
    )


def _from_mat(path: Path) -> np.ndarray:
    from scipy.io import loadmat

    regular(path)
    with reading(path, "MATLAB's format"):
        content = loadmat(str(path))
    if "LabelMap" not in content:
        raise DatasetError(f"{str(path)!r} holds no LabelMap; PASCAL Context's trainval/*.mat are needed")
    return context_table()[np.asarray(content["LabelMap"], np.int64)]


def _from_json(path: Path) -> tuple[Maps, dict[str, list[str]]]:
    with reading(path, "PASCAL Context's trainval_merged.json", advice="fetch it again"):
        return _maps(path, read_mapping(path))


def _maps(path: Path, content: dict[str, Any]) -> tuple[Maps, dict[str, list[str]]]:
    tool = decoder()
    table = context_table()
    by_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for item in content["annos_segmentation"]:
        by_image[item["image_id"]].append(item)

    def draw(image: dict[str, Any]) -> np.ndarray:
        width, height = check_size(image["width"], image["height"])
        size = (height, width)
        labels = np.zeros(size, np.int64)
        for item in by_image[image["image_id"]]:
            with reading(path, "PASCAL Context's trainval_merged.json", advice="fetch it again"):
                labels[decode(tool, item["segmentation"], size)] = item["category_id"]
        return table[labels]

    images = sorted(content["images"], key=lambda image: image["file_name"])
    splits: dict[str, list[str]] = defaultdict(list)
    for image in images:
        splits[image["phase"]].append(Path(image["file_name"]).stem)
    maps: Maps = [(Path(image["file_name"]).stem, partial(draw, image)) for image in images]
    return maps, dict(splits)
