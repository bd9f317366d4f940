"""Label maps made from official annotations, where the usual evaluation layout is not the official one. Idempotent:
what is already there stays (``overwrite`` makes it anew), and a file is whole or not there at all.

* ``voc-aug``: SegmentationClassAug and train_aug.txt from SBD's ``cls/*.mat`` (VOC's own masks win) or a given folder.
* ``coco-stuff``, ``coco-object``: 171 and 81 classes from stuffthingmaps; ``coco-object`` also from instances_*.json.
* ``coco14``: 81 classes from instances_*2014.json (coco14, coco20i).
* ``context``: 59 classes and background from trainval_merged.json or the 459-class ``trainval/*.mat``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from clipseg_ws.eval.datasets import coco, prepare_context, voc
from clipseg_ws.eval.datasets.base import DatasetError, find_root, lookup, read_list, read_truth
from clipseg_ws.eval.datasets.prepare_coco import coco_maps
from clipseg_ws.files import atomic_write
from clipseg_ws.output.formats.png import write_label_png


@dataclass(frozen=True)
class Prepared:
    """What a preparation did: files ``made``, files that were already there (``kept``), and the folder(s)."""

    made: int
    kept: int
    folders: tuple[str, ...]


def prepare(
    task: str, root: str | Path, *, source: str | Path | None = None, overwrite: bool = False, workers: int = 2
) -> Prepared:
    """Make the label maps of ``task`` below ``root`` (a key of ``TASKS``).

    ``source``: SBD's folder or a folder of ready masks (voc-aug), "stuffthingmaps" or "instances" (coco-object), the
    folder of .mat files or the JSON (context). Raises ValueError for an unknown task, DatasetError for missing
    annotations (with the expected tree), ImportError where pycocotools is needed and absent.
    """
    if task not in TASKS:
        raise ValueError(f"unknown preparation {task!r}; choose from {', '.join(TASKS)}")
    jobs, finish = TASKS[task](Path(root).expanduser(), source)
    waiting = [(path, make) for path, make in jobs if overwrite or not path.exists()]
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda job: write_label_png(job[1](), job[0]), waiting)
        for _ in tqdm(done, total=len(waiting), desc=task, unit="mask", disable=None):
            pass
    finish()
    folders = tuple(sorted({str(path.parent) for path, _ in jobs}))
    return Prepared(len(waiting), len(jobs) - len(waiting), folders)


Jobs = list[tuple[Path, Callable[[], np.ndarray]]]
Plan = tuple[Jobs, Callable[[], None]]


def _nothing() -> None:
    """No list to write."""


def write_list(path: Path, ids: Iterable[str]) -> None:
    """Write a split file, one id a line."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{id}\n" for id in ids), "utf-8")


def _voc_aug(root: Path, source: str | Path | None) -> Plan:
    base = find_root(root, "voc-aug", "JPEGImages", ("VOC2012", "VOCdevkit/VOC2012"), voc.VOC_TREE)
    if source is None:
        raise DatasetError("voc-aug needs --source: SBD's folder (with cls/*.mat), or a folder of ready .png masks")
    folder = Path(source).expanduser()
    mats = next((f for f in (folder / "cls", folder / "dataset" / "cls", folder) if any(f.glob("*.mat"))), None)
    if mats is not None:
        found = {path.stem: (lambda path=path: _read_sbd(path)) for path in sorted(mats.glob("*.mat"))}
    else:
        found = {path.stem: (lambda path=path: _checked(path)) for path in sorted(folder.glob("*.png"))}
    if not found:
        raise DatasetError(
            f"voc-aug: neither cls/*.mat nor *.png in {str(folder)!r}; SBD holds benchmark_RELEASE/dataset/cls"
        )
    own = {path.stem: (lambda path=path: _checked(path)) for path in sorted((base / "SegmentationClass").glob("*.png"))}
    lists = base / "ImageSets" / "Segmentation"
    train, val = (read_list(lists / f"{s}.txt") if (lists / f"{s}.txt").exists() else () for s in ("train", "val"))
    if not train or not val:
        raise DatasetError(f"voc-aug: {str(lists)!r} holds no train.txt and val.txt; expected:\n{voc.VOC_TREE}")
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


def stuff_table() -> np.ndarray:
    """[256] uint8: stuffthingmaps value -> 0…170, 255 = unlabelled."""
    return lookup({raw: i for i, raw in enumerate(coco.RAW_STUFF)})


def object_table() -> np.ndarray:
    """[256] uint8: stuffthingmaps value -> 1…80 for things, 0 for stuff and for **unlabelled**, as published."""
    return lookup({raw: i + 1 for i, raw in enumerate(coco.RAW_STUFF[:80])}, default=0)


def _stuff_jobs(root: Path, task: str, ending: str, table: np.ndarray) -> Jobs:
    """One job a raw map of every split that is there."""
    base = root / "coco_stuff164k" if (root / "coco_stuff164k").is_dir() else root
    jobs: Jobs = []
    for split in ("train2017", "val2017"):
        raw = coco.find_folder(base, (f"stuffthingmaps/{split}", f"annotations/{split}"))
        for path in sorted(raw.glob("*.png")) if raw else ():
            if not path.stem.endswith("TrainIds"):
                target = base / "annotations" / split / f"{path.stem}{ending}"
                jobs.append((target, lambda path=path: read_truth(path, table)))  # type: ignore[misc]
    return jobs


def _coco_stuff(root: Path, source: str | Path | None) -> Plan:
    jobs = _stuff_jobs(root, "coco-stuff", "_labelTrainIds.png", stuff_table())
    if not jobs:
        raise DatasetError(f"coco-stuff: no stuffthingmaps in {str(root)!r}; expected:\n{coco.COCO17_TREE}")
    return jobs, _nothing


def _coco_object(root: Path, source: str | Path | None) -> Plan:
    if source not in (None, "stuffthingmaps", "instances"):
        raise ValueError(f"coco-object: source {str(source)!r}; choose from stuffthingmaps, instances")
    ending = "_instanceTrainIds.png"
    jobs = [] if source == "instances" else _stuff_jobs(root, "coco-object", ending, object_table())
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
            f"coco-object: neither stuffthingmaps nor instances_*2017.json in {str(root)!r}; "
            f"expected:\n{coco.COCO17_TREE}"
        )
    return jobs, _nothing


def _coco14(root: Path, source: str | Path | None) -> Plan:
    base = next((root / part for part in ("", "COCO2014", "coco2014") if (root / part / "annotations").is_dir()), root)
    jobs: Jobs = []
    for split in ("train2014", "val2014"):
        file = base / "annotations" / f"instances_{split}.json"
        if file.is_file():
            jobs += [
                (base / "annotations" / split / f"{stem}.png", make) for stem, make in coco_maps(file, empty=False)
            ]
    if not jobs:
        raise DatasetError(f"coco14: no instances_*2014.json in {str(root)!r}; expected:\n{coco.COCO14_TREE}")
    return jobs, _nothing


def _context(root: Path, source: str | Path | None) -> Plan:
    base = find_root(root, "context", "JPEGImages", ("VOC2010", "VOCdevkit/VOC2010"), voc.CONTEXT_TREE)
    maps, splits = prepare_context.context_maps(base, source)
    lists = base / "ImageSets" / "SegmentationContext"

    def finish() -> None:
        for split, ids in splits.items():
            if not (lists / f"{split}.txt").exists():
                write_list(lists / f"{split}.txt", ids)

    return [(base / "SegmentationClassContext" / f"{stem}.png", make) for stem, make in maps], finish


TASKS: dict[str, Callable[[Path, Any], Plan]] = {
    "voc-aug": _voc_aug,
    "coco-stuff": _coco_stuff,
    "coco-object": _coco_object,
    "coco14": _coco14,
    "context": _context,
}
