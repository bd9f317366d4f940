"""MS COCO: coco-object81 and coco-stuff171 (2017, 164k) for the zero-shot protocols, coco14 for the weak one."""

from __future__ import annotations

from pathlib import Path

from clipseg_ws.eval.datasets.base import (
    Dataset,
    DatasetError,
    check_files,
    find_root,
    lookup,
    need,
    read_truth,
    unrotated,
    vocabulary_of,
)
from clipseg_ws.eval.guard import Setting

COCO17_TREE = """  coco_stuff164k/
    images/{train2017,val2017}/<id>.jpg          (or {train2017,val2017}/<id>.jpg)
    annotations/{train2017,val2017}/<id>_labelTrainIds.png      171 classes: clipseg-ws eval prepare coco-stuff
    annotations/{train2017,val2017}/<id>_instanceTrainIds.png   81 classes: clipseg-ws eval prepare coco-object
  both are made from the official stuffthingmaps: annotations/val2017/<id>.png or stuffthingmaps/val2017/<id>.png"""
COCO14_TREE = """  COCO2014/
    {train2014,val2014}/COCO_val2014_<number>.jpg
    annotations/{train2014,val2014}/COCO_val2014_<number>.png   labels 0…80: clipseg-ws eval prepare coco14
    annotations/instances_{train,val}2014.json                  what they are made from"""
MISSING_THINGS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)  # category ids 1…182 that COCO-Stuff never uses
RAW_STUFF = tuple(i for i in range(182) if i + 1 not in MISSING_THINGS)  # stuffthingmaps values of the 171 classes
COCO14_SIZES = {"train": 82081, "val": 40137}  # pictures with at least one annotated object


def find_folder(base: Path, candidates: tuple[str, ...]) -> Path | None:
    """The first of the sub-folders that exists."""
    return next((base / part for part in candidates if (base / part).is_dir()), None)


def coco17(
    name: str, root: str | Path | None, split: str | None, setting: Setting, prompts: str | None = None
) -> Dataset:
    """``coco-object81`` (80 things and background; unlabelled counts as background, as published) and
    ``coco-stuff171`` (no background, unlabelled is ignored)."""
    split = split or "val"
    objects = name == "coco-object81"
    base = find_root(root, name, "annotations", ("coco_stuff164k",), COCO17_TREE)
    hint = f"made by: clipseg-ws eval prepare {'coco-object' if objects else 'coco-stuff'}"
    images = find_folder(base, (f"images/{split}2017", f"{split}2017"))
    if images is None:
        raise DatasetError(f"{name}: no folder images/{split}2017 in {str(base)!r}; expected:\n{COCO17_TREE}")
    masks = need(base / "annotations" / f"{split}2017", name, COCO17_TREE, hint)
    ending = "_instanceTrainIds.png" if objects else "_labelTrainIds.png"
    ids = tuple(sorted(path.stem for path in images.glob("*.jpg")))
    if not ids:
        raise DatasetError(f"{name}: no .jpg in {str(images)!r}; expected:\n{COCO17_TREE}")
    check_files(ids, [(masks, ending)], name, COCO17_TREE, hint)
    table = lookup({i: i for i in range(81)}) if objects else lookup({i: i + 1 for i in range(171)})
    count = 80 if objects else 171
    prompts = prompts or (
        ("coco-object-zero" if setting.kind == "zero" else "coco-object") if objects else "coco-stuff"
    )
    return Dataset(
        name, split, setting, vocabulary_of(prompts, count, background=objects), ids,
        image=lambda id: unrotated(images / f"{id}.jpg"),
        truth=lambda id: read_truth(masks / f"{id}{ending}", table),
        background=objects, prompts=prompts, root=base, expected=5000 if split == "val" else 118287,
    )  # fmt: skip


def coco14(
    name: str, root: str | Path | None, split: str | None, setting: Setting, prompts: str | None = None
) -> Dataset:
    """``coco14``: 80 classes and background, the pictures with at least one object. Default split: val."""
    split = split or "val"
    base = find_root(root, name, "annotations", ("COCO2014", "coco2014"), COCO14_TREE)
    hint = "made by: clipseg-ws eval prepare coco14"
    images = find_folder(base, (f"{split}2014", f"images/{split}2014"))
    if images is None:
        raise DatasetError(f"{name}: no folder {split}2014 in {str(base)!r}; expected:\n{COCO14_TREE}")
    masks = need(base / "annotations" / f"{split}2014", name, COCO14_TREE, hint)
    ids = tuple(sorted(path.stem for path in masks.glob("*.png")))
    if not ids:
        raise DatasetError(f"{name}: no .png in {str(masks)!r}; {hint}; expected:\n{COCO14_TREE}")
    check_files(ids, [(images, ".jpg")], name, COCO14_TREE)
    prompts = prompts or ("coco-object-zero" if setting.kind == "zero" else "coco-object")
    return Dataset(
        name, split, setting, vocabulary_of(prompts, 80), ids,
        image=lambda id: unrotated(images / f"{id}.jpg"),
        truth=lambda id: read_truth(masks / f"{id}.png"),
        prompts=prompts, root=base, expected=COCO14_SIZES.get(split),
    )  # fmt: skip
