"""MS COCO 2014 (coco14) with 80 classes and background, and its label maps from the official annotations."""

from __future__ import annotations

from pathlib import Path

from clipseg_ws.eval.datasets import official_count
from clipseg_ws.eval.datasets.coco_instances import coco_maps
from clipseg_ws.eval.datasets.dataset import Dataset, vocabulary_of
from clipseg_ws.eval.datasets.files import (
    DatasetError,
    beside,
    check_files,
    find_folder,
    find_root,
    need,
    read_truth,
    unrotated,
)
from clipseg_ws.eval.datasets.prepare import Jobs, Plan, no_lists
from clipseg_ws.eval.guard import Setting

TREE = """  COCO2014/
    {train2014,val2014}/COCO_val2014_<number>.jpg
    annotations/{train2014,val2014}/COCO_val2014_<number>.png   labels 0…80: clipseg-ws eval prepare coco14
    annotations/instances_{train,val}2014.json                  what they are made from"""


def coco14(name: str, root: str | Path, split: str | None, setting: Setting, prompts: str | None = None) -> Dataset:
    """``coco14``: 80 classes and background, the pictures with at least one object. Default split: val."""
    split = split or "val"
    base = find_root(root, name, "annotations", ("COCO2014", "coco2014"), TREE)
    hint = "made by: clipseg-ws eval prepare coco14"
    images = find_folder(base, (f"{split}2014", f"images/{split}2014"))
    if images is None:
        raise DatasetError(f"{name}: no folder {split}2014 in {str(base)!r}; expected:\n{TREE}")
    masks = need(base / "annotations" / f"{split}2014", name, TREE, hint)
    ids = tuple(sorted(path.stem for path in masks.glob("*.png")))
    if not ids:
        raise DatasetError(f"{name}: no .png in {str(masks)!r}; {hint}; expected:\n{TREE}")
    check_files(ids, [(images, ".jpg")], name, TREE)
    prompts = prompts or ("coco-object-zero" if setting.kind == "zero" else "coco-object")
    return Dataset(
        name, split, setting, vocabulary_of(prompts, 80), ids,
        image=lambda id: unrotated(images / f"{id}.jpg"),
        truth=lambda id: read_truth(masks / f"{id}.png"),
        prompts=prompts, root=base, expected=official_count(name, split),
        files=beside((images, ".jpg"), (masks, ".png")),
    )  # fmt: skip


def prepared(root: Path, source: str | Path | None) -> Plan:
    """``coco14``: 81 classes from instances_*2014.json."""
    base = next((root / part for part in ("", "COCO2014", "coco2014") if (root / part / "annotations").is_dir()), root)
    jobs: Jobs = []
    for split in ("train2014", "val2014"):
        file = base / "annotations" / f"instances_{split}.json"
        if file.is_file():
            jobs += [
                (base / "annotations" / split / f"{stem}.png", make) for stem, make in coco_maps(file, empty=False)
            ]
    if not jobs:
        raise DatasetError(f"coco14: no instances_*2014.json in {str(root)!r}; expected:\n{TREE}")
    return jobs, no_lists
