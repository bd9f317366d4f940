"""PASCAL VOC 2012 (voc21, voc20, voc-animals) in its official layout, and its augmented masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.door.plain import user_path
from clipseg_ws.eval.datasets import official_count
from clipseg_ws.eval.datasets.dataset import Dataset, subset_of, vocabulary_of
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
from clipseg_ws.eval.datasets.prepare import Plan
from clipseg_ws.eval.guard import Setting
from clipseg_ws.structures import Vocabulary
from clipseg_ws.weak.readers.forms import load_xml

TREE = """  VOC2012/  (or VOCdevkit/VOC2012/)
    JPEGImages/<id>.jpg
    SegmentationClass/<id>.png       labels 0…20, 255 ignored (val)
    SegmentationClassAug/<id>.png    the same for train and train_aug: clipseg-ws eval prepare voc-aug
    ImageSets/Segmentation/{train,train_aug,val}.txt
    Annotations/<id>.xml             optional: official tags and boxes
  or, for the split set-aside, a folder with list.txt, images/<id>.jpg and masks/<id>.png (labels as above)"""
ANIMALS = (8, 10, 12, 13, 15, 17)  # VOC labels of cat, cow, dog, horse, person, sheep
SPLIT_FILES = {"train_aug": ("train_aug", "trainaug")}
SET_ASIDE = "set-aside"  # training pictures whose masks choose settings: ``embedded.photo.data.set_aside``


@dataclass(frozen=True)
class _Place:
    """Where a split lies: its pictures' names, and the folders of pictures and masks."""

    base: Path
    ids: tuple[str, ...]
    images: Path
    masks: Path


def voc(name: str, root: str | Path, split: str | None, setting: Setting, prompts: str | None = None) -> Dataset:
    """``voc21`` (21 classes), ``voc20`` (background ignored), ``voc-animals`` (six animals and people, background).

    The default split is train for the weak setting, else val. "set-aside" are the pictures of a small training folder
    whose masks choose settings. Of ``voc-animals`` see ``_animals``.
    """
    split = split or ("train" if setting.kind == "weak" else "val")
    place = _set_aside(root, name) if split == SET_ASIDE else _official_place(root, split, name)
    prompts = prompts or ("voc-zero" if setting.kind == "zero" else "voc")
    whole = vocabulary_of(prompts, 20, background=name != "voc20")
    vocabulary, table = whole, None
    if name == "voc20":
        table = lookup({i: i for i in range(1, 21)})
    elif name == "voc-animals":
        vocabulary, table = _animals(whole, setting)
    official = _official(place.base / "Annotations", whole.names, vocabulary.names)
    places = [(place.images, ".jpg"), (place.masks, ".png")]
    places += [(place.base / "Annotations", ".xml")] if official else []
    return Dataset(
        name, split, setting, vocabulary, place.ids,
        image=lambda id: unrotated(place.images / f"{id}.jpg"),
        truth=lambda id: read_truth(place.masks / f"{id}.png", table),
        files=beside(*places),
        background=name != "voc20", prompts=prompts, root=place.base,
        expected=official_count(name, split), official=official,
        average="truth" if name == "voc-animals" and setting.kind == "zero" else None,
        notes={"masks": place.masks.name, "tags": "annotations" if official else "masks"},
    )  # fmt: skip


def _animals(whole: Vocabulary, setting: Setting) -> tuple[Vocabulary, np.ndarray]:
    """The vocabulary of ``voc-animals`` and the table of its labels. Scored are seven classes in every setting.

    * zero: all 20 names are asked. Pixels of the other 14 classes are ignored; another name on a pixel of the seven is
      simply not its class. The mean is over the classes of the truth, so that such a name costs that class alone.
    * tags, boxes, points, scribbles: the six names are asked, the other classes are ignored.
    * few, weak-few: the other classes are background, as in PASCAL-5i.
    """
    own = {label: i + 1 for i, label in enumerate(ANIMALS)}
    if setting.kind == "zero":
        return whole, lookup({0: 0} | {label: label for label in ANIMALS})
    others = {label: 0 for label in range(1, 21)} if setting.shots else {}
    return subset_of(whole, [label - 1 for label in ANIMALS]), lookup({0: 0} | others | own)


def _official_place(root: str | Path, split: str, name: str) -> _Place:
    """A split in the official layout. Raises DatasetError where anything is missing."""
    base = find_root(root, name, "JPEGImages", ("VOC2012", "VOCdevkit/VOC2012"), TREE)
    files = [base / "ImageSets" / "Segmentation" / f"{stem}.txt" for stem in SPLIT_FILES.get(split, (split,))]
    ids = read_list(need(next((f for f in files if f.exists()), files[0]), name, TREE))
    masks = _mask_folder(base, split, name)
    check_files(ids, [(base / "JPEGImages", ".jpg"), (masks, ".png")], name, TREE, _aug_hint(masks))
    return _Place(base, ids, base / "JPEGImages", masks)


def _set_aside(root: str | Path, name: str) -> _Place:
    """Of a small folder the pictures that no training learns from. Raises DatasetError where anything is missing."""
    from clipseg_ws.embedded.photo.data import set_aside

    base = find_root(root, name, "list.txt", (), TREE)
    images, masks = base / "images", base / "masks"
    check_files(read_list(base / "list.txt"), [(images, ".jpg"), (masks, ".png")], name, TREE)
    return _Place(base, tuple(set_aside(base)), images, masks)


def _mask_folder(base: Path, split: str, name: str) -> Path:
    """val is scored on VOC's own masks where they are there, the training splits on the augmented ones."""
    order = ("SegmentationClass", "SegmentationClassAug")
    for folder in order if split == "val" else order[::-1]:
        if (base / folder).is_dir():
            return base / folder
    raise DatasetError(f"{name}: {str(base)!r} holds neither {order[0]} nor {order[1]}; expected:\n{TREE}")


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
    for item in load_xml(path).iter("object"):
        box = item.find("bndbox")
        if box is None:
            raise DatasetError(f"{str(path)!r} has an object without bndbox; it is no VOC annotation")
        x0, y0, x1, y1 = (float(box.findtext(key, "nan")) for key in ("xmin", "ymin", "xmax", "ymax"))
        out.append((item.findtext("name", "").strip(), x0 - 1, y0 - 1, x1, y1))  # VOC counts from 1, ends inclusive
    return tuple(out)


def augmented(root: Path, source: str | Path | None) -> Plan:
    """``voc-aug``: SegmentationClassAug and train_aug.txt. ``source``: SBD's folder, or a folder of ready masks."""
    base = find_root(root, "voc-aug", "JPEGImages", ("VOC2012", "VOCdevkit/VOC2012"), TREE)
    if source is None:
        raise DatasetError("voc-aug needs --source: SBD's folder (with cls/*.mat), or a folder of ready .png masks")
    folder = user_path(source)
    mats = next((f for f in (folder / "cls", folder / "dataset" / "cls", folder) if any(f.glob("*.mat"))), None)
    if mats is not None:
        found = {path.stem: partial(_read_sbd, path) for path in sorted(mats.glob("*.mat"))}
    else:
        found = {path.stem: partial(_checked, path) for path in sorted(folder.glob("*.png"))}
    if not found:
        raise DatasetError(
            f"voc-aug: neither cls/*.mat nor *.png in {str(folder)!r}; SBD holds benchmark_RELEASE/dataset/cls"
        )
    own = {path.stem: partial(_checked, path) for path in sorted((base / "SegmentationClass").glob("*.png"))}
    lists = base / "ImageSets" / "Segmentation"
    train, val = (read_list(lists / f"{s}.txt") if (lists / f"{s}.txt").exists() else () for s in ("train", "val"))
    if not train or not val:
        raise DatasetError(f"voc-aug: {str(lists)!r} holds no train.txt and val.txt; expected:\n{TREE}")
    everything = found | own  # VOC's own masks win
    target = base / "SegmentationClassAug"
    augmented = sorted((set(found) | set(train)) - set(val))

    def finish() -> None:
        if not (lists / "train_aug.txt").exists():
            write_list(lists / "train_aug.txt", augmented)

    return [(target / f"{id}.png", make) for id, make in sorted(everything.items())], finish


def _read_sbd(path: Path) -> np.ndarray:
    """[H, W] uint8 labels of a semantic SBD annotation (GTcls.Segmentation)."""
    from scipy.io import loadmat

    content = loadmat(str(path), squeeze_me=True, struct_as_record=False)
    if "GTcls" not in content:
        raise DatasetError(f"{str(path)!r} holds no GTcls; SBD's cls/ is needed, not inst/")
    return np.asarray(content["GTcls"].Segmentation, np.uint8)


def _checked(path: Path) -> np.ndarray:
    """A ready mask. Raises DatasetError for labels that VOC does not have."""
    labels = read_truth(path)
    strange = set(np.unique(labels).tolist()) - {*range(21), 255}
    if strange:
        raise DatasetError(f"{str(path)!r} holds labels {sorted(strange)[:5]}; VOC has 0…20 and 255")
    return labels
