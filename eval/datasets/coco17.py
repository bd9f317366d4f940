"""MS COCO 2017 (164k): coco-object81 and coco-stuff171, and their label maps from the official annotations."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from clipseg_ws.eval.datasets import official_count
from clipseg_ws.eval.datasets.coco_instances import coco_maps
from clipseg_ws.eval.datasets.dataset import Dataset, vocabulary_of
from clipseg_ws.eval.datasets.files import (
    DatasetError,
    beside,
    check_files,
    find_folder,
    find_root,
    lookup,
    need,
    read_truth,
    unrotated,
)
from clipseg_ws.eval.datasets.prepare import Jobs, Plan, no_lists
from clipseg_ws.eval.guard import Setting

TREE = """  coco_stuff164k/
    images/{train2017,val2017}/<id>.jpg          (or {train2017,val2017}/<id>.jpg)
    annotations/{train2017,val2017}/<id>_labelTrainIds.png      171 classes: clipseg-ws eval prepare coco-stuff
    annotations/{train2017,val2017}/<id>_instanceTrainIds.png   81 classes: clipseg-ws eval prepare coco-object
  both are made from the official stuffthingmaps: annotations/val2017/<id>.png or stuffthingmaps/val2017/<id>.png"""
MISSING_THINGS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)  # category ids 1…182 that COCO-Stuff never uses
RAW_STUFF = tuple(i for i in range(182) if i + 1 not in MISSING_THINGS)  # stuffthingmaps values of the 171 classes


def coco17(name: str, root: str | Path, split: str | None, setting: Setting, prompts: str | None = None) -> Dataset:
    """``coco-object81`` (80 things and background; unlabelled counts as background, as published) and
    ``coco-stuff171`` (no background, unlabelled is ignored)."""
    split = split or "val"
    objects = name == "coco-object81"
    base = find_root(root, name, "annotations", ("coco_stuff164k",), TREE)
    hint = f"made by: clipseg-ws eval prepare {'coco-object' if objects else 'coco-stuff'}"
    images = find_folder(base, (f"images/{split}2017", f"{split}2017"))
    if images is None:
        raise DatasetError(f"{name}: no folder images/{split}2017 in {str(base)!r}; expected:\n{TREE}")
    masks = need(base / "annotations" / f"{split}2017", name, TREE, hint)
    ending = "_instanceTrainIds.png" if objects else "_labelTrainIds.png"
    ids = tuple(sorted(path.stem for path in images.glob("*.jpg")))
    if not ids:
        raise DatasetError(f"{name}: no .jpg in {str(images)!r}; expected:\n{TREE}")
    check_files(ids, [(masks, ending)], name, TREE, hint)
    table = lookup({i: i for i in range(81)}) if objects else lookup({i: i + 1 for i in range(171)})
    count = 80 if objects else 171
    prompts = prompts or (
        ("coco-object-zero" if setting.kind == "zero" else "coco-object") if objects else "coco-stuff"
    )
    return Dataset(
        name, split, setting, vocabulary_of(prompts, count, background=objects), ids,
        image=lambda id: unrotated(images / f"{id}.jpg"),
        truth=lambda id: read_truth(masks / f"{id}{ending}", table), files=beside((images, ".jpg"), (masks, ending)),
        background=objects, prompts=prompts, root=base, expected=official_count(name, split),
    )  # fmt: skip


def stuff_table() -> np.ndarray:
    """[256] uint8: stuffthingmaps value -> 0…170, 255 = unlabelled."""
    return lookup({raw: i for i, raw in enumerate(RAW_STUFF)})


def object_table() -> np.ndarray:
    """[256] uint8: stuffthingmaps value -> 1…80 for things, 0 for stuff and for **unlabelled**, as published."""
    return lookup({raw: i + 1 for i, raw in enumerate(RAW_STUFF[:80])}, default=0)


def _stuff_jobs(root: Path, ending: str, table: np.ndarray) -> Jobs:
    """One job a raw map of every split that is there."""
    base = root / "coco_stuff164k" if (root / "coco_stuff164k").is_dir() else root
    jobs: Jobs = []
    for split in ("train2017", "val2017"):
        raw = find_folder(base, (f"stuffthingmaps/{split}", f"annotations/{split}"))
        for path in sorted(raw.glob("*.png")) if raw else ():
            if not path.stem.endswith("TrainIds"):
                target = base / "annotations" / split / f"{path.stem}{ending}"
                jobs.append((target, partial(read_truth, path, table)))
    return jobs


def prepared_stuff(root: Path, source: str | Path | None) -> Plan:
    """``coco-stuff``: 171 classes from stuffthingmaps."""
    jobs = _stuff_jobs(root, "_labelTrainIds.png", stuff_table())
    if not jobs:
        raise DatasetError(f"coco-stuff: no stuffthingmaps in {str(root)!r}; expected:\n{TREE}")
    return jobs, no_lists


def prepared_objects(root: Path, source: str | Path | None) -> Plan:
    """``coco-object``: 81 classes from stuffthingmaps or instances_*.json, which ``source`` may name."""
    if source not in (None, "stuffthingmaps", "instances"):
        raise ValueError(f"coco-object: source {str(source)!r}; choose from stuffthingmaps, instances")
    ending = "_instanceTrainIds.png"
    jobs = [] if source == "instances" else _stuff_jobs(root, ending, object_table())
    if not jobs and source != "stuffthingmaps":
        base = root / "coco_stuff164k" if (root / "coco_stuff164k").is_dir() else root
        for split in ("train2017", "val2017"):
            folder = base / "annotations"
            file = folder / f"instances_{split}.json"
            if file.is_file():  # every picture counts, also those without an object
                maps = coco_maps(file, empty=True)
                jobs += [(folder / split / f"{stem}{ending}", make) for stem, make in maps]
    if not jobs:
        raise DatasetError(
            f"coco-object: neither stuffthingmaps nor instances_*2017.json in {str(root)!r}; expected:\n{TREE}"
        )
    return jobs, no_lists
