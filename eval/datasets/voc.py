"""PASCAL VOC 2012 (voc21, voc20, voc-animals) and PASCAL Context (context60, context59) in their official layouts."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from clipseg_ws.eval.datasets.base import (
    Dataset,
    DatasetError,
    check_files,
    find_root,
    lookup,
    need,
    read_list,
    read_truth,
    subset_of,
    unrotated,
    vocabulary_of,
)
from clipseg_ws.eval.guard import Setting

VOC_TREE = """  VOC2012/  (or VOCdevkit/VOC2012/)
    JPEGImages/<id>.jpg
    SegmentationClass/<id>.png       labels 0…20, 255 ignored (val)
    SegmentationClassAug/<id>.png    the same for train and train_aug: clipseg-ws eval prepare voc-aug
    ImageSets/Segmentation/{train,train_aug,val}.txt
    Annotations/<id>.xml             optional: official tags and boxes"""
CONTEXT_TREE = """  VOC2010/  (or VOCdevkit/VOC2010/)
    JPEGImages/<id>.jpg
    SegmentationClassContext/<id>.png    labels 0…59, 0 = background: clipseg-ws eval prepare context
    ImageSets/SegmentationContext/{train,val}.txt"""
VOC_SIZES = {"train": 1464, "train_aug": 10582, "val": 1449, "trainval": 2913}
CONTEXT_SIZES = {"train": 4998, "val": 5105}
ANIMALS = (8, 10, 12, 13, 15, 17)  # VOC labels of cat, cow, dog, horse, person, sheep
SPLIT_FILES = {"train_aug": ("train_aug", "trainaug")}


def voc(name: str, root: str | Path | None, split: str | None, setting: Setting, prompts: str | None = None) -> Dataset:
    """``voc21`` (21 classes), ``voc20`` (background ignored), ``voc-animals`` (six animals and people, background;
    the other 14 classes are ignored). The default split is train for the weak setting, else val.
    """
    split = split or ("train" if setting.kind == "weak" else "val")
    base = find_root(root, name, "JPEGImages", ("VOC2012", "VOCdevkit/VOC2012"), VOC_TREE)
    files = [base / "ImageSets" / "Segmentation" / f"{stem}.txt" for stem in SPLIT_FILES.get(split, (split,))]
    ids = read_list(need(next((f for f in files if f.exists()), files[0]), name, VOC_TREE))
    masks = _mask_folder(base, split, name)
    check_files(ids, [(base / "JPEGImages", ".jpg"), (masks, ".png")], name, VOC_TREE, _aug_hint(masks))
    prompts = prompts or ("voc-zero" if setting.kind == "zero" else "voc")
    whole = vocabulary_of(prompts, 20, background=name != "voc20")
    vocabulary, table = whole, None
    if name == "voc20":
        table = lookup({i: i for i in range(1, 21)})
    elif name == "voc-animals":
        vocabulary = subset_of(whole, [label - 1 for label in ANIMALS])
        table = lookup({0: 0} | {label: i + 1 for i, label in enumerate(ANIMALS)})
    official = _official(base / "Annotations", whole.names, vocabulary.names)
    return Dataset(
        name, split, setting, vocabulary, ids,
        image=lambda id: unrotated(base / "JPEGImages" / f"{id}.jpg"),
        truth=lambda id: read_truth(masks / f"{id}.png", table),
        background=name != "voc20", prompts=prompts, root=base,
        expected=VOC_SIZES.get(split), official=official,
        notes={"masks": masks.name, "tags": "annotations" if official else "masks"},
    )  # fmt: skip


def _mask_folder(base: Path, split: str, name: str) -> Path:
    """val is scored on VOC's own masks where they are there, the training splits on the augmented ones."""
    order = ("SegmentationClass", "SegmentationClassAug")
    for folder in order if split == "val" else order[::-1]:
        if (base / folder).is_dir():
            return base / folder
    raise DatasetError(f"{name}: {str(base)!r} holds neither {order[0]} nor {order[1]}; expected:\n{VOC_TREE}")


def _aug_hint(masks: Path) -> str:
    return "" if masks.name.endswith("Aug") else "SegmentationClassAug is made by: clipseg-ws eval prepare voc-aug"


def _official(folder: Path, names: tuple[str, ...], wanted: tuple[str, ...]) -> dict[str, Any]:
    """Readers of the official annotations, of the classes in ``wanted``; empty where there is no such folder."""
    if not folder.is_dir():
        return {}

    def boxes(id: str) -> tuple[tuple[str, float, float, float, float], ...]:
        found = read_boxes(folder / f"{id}.xml")
        unknown = {box[0] for box in found} - set(names)
        if unknown:
            raise DatasetError(f"{folder / id}.xml names {', '.join(sorted(unknown))}; classes are {', '.join(names)}")
        return tuple(box for box in found if box[0] in wanted)

    def tags(id: str) -> tuple[str, ...]:
        present = {box[0] for box in boxes(id)}
        return tuple(name for name in wanted if name in present)

    return {"tags": tags, "boxes": boxes}


def read_boxes(path: Path) -> tuple[tuple[str, float, float, float, float], ...]:
    """(name, x0, y0, x1, y1) of every object of a VOC annotation, difficult ones included; ends exclusive, from 0."""
    out = []
    for item in ElementTree.parse(path).getroot().iter("object"):
        box = item.find("bndbox")
        if box is None:
            raise DatasetError(f"{str(path)!r} has an object without bndbox; it is no VOC annotation")
        x0, y0, x1, y1 = (float(box.findtext(key, "nan")) for key in ("xmin", "ymin", "xmax", "ymax"))
        out.append((item.findtext("name", "").strip(), x0 - 1, y0 - 1, x1, y1))  # VOC counts from 1, ends inclusive
    return tuple(out)


def context(
    name: str, root: str | Path | None, split: str | None, setting: Setting, prompts: str | None = None
) -> Dataset:
    """``context60`` (59 classes and background) and ``context59`` (background ignored)."""
    split = split or "val"
    base = find_root(root, name, "JPEGImages", ("VOC2010", "VOCdevkit/VOC2010"), CONTEXT_TREE)
    ids = read_list(need(base / "ImageSets" / "SegmentationContext" / f"{split}.txt", name, CONTEXT_TREE, _CONTEXT))
    masks = need(base / "SegmentationClassContext", name, CONTEXT_TREE, _CONTEXT)
    check_files(ids, [(base / "JPEGImages", ".jpg"), (masks, ".png")], name, CONTEXT_TREE, _CONTEXT)
    table = lookup({i: i for i in range(0 if name == "context60" else 1, 60)})
    return Dataset(
        name, split, setting, vocabulary_of(prompts or "context", 59, background=name == "context60"), ids,
        image=lambda id: unrotated(base / "JPEGImages" / f"{id}.jpg"),
        truth=lambda id: read_truth(masks / f"{id}.png", table),
        background=name == "context60", prompts=prompts or "context", root=base, expected=CONTEXT_SIZES.get(split),
    )  # fmt: skip


_CONTEXT = "made by: clipseg-ws eval prepare context"
