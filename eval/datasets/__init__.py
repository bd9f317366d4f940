"""The registry of data sets, one line each; reader, expected tree and preparation stand in the data set's own file.

Besides its reader (``home``) an entry tells in ``about``: ``kind`` ("semantic", or "few-shot": episodes only),
``splits`` (name -> official number of pictures or None), ``background`` (whether the protocol has one), ``tree`` (where
the expected tree stands, "" for drawn data), ``prepare`` (task and function that make missing label maps, or None),
``avg8`` (one of the eight zero-shot sets) and ``model`` (default model in place of the usual one, or "").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipseg_ws.registry import Entry, registry


def _entry(
    name: str, summary: str, reader: str, *, splits: Mapping[str, int | None] | None = None, kind: str = "semantic",
    background: bool = True, tree: str | None = None, prepare: tuple[str, str] | None = None, avg8: bool = False,
    model: str = "", paper: str = "",
) -> Entry:  # fmt: skip
    """``reader``, ``tree`` and the second of ``prepare`` are "file:name" of this folder; by default TREE beside it."""
    tree = reader.partition(":")[0] + ":TREE" if tree is None else tree
    about = {"kind": kind, "splits": splits or {}, "background": background, "avg8": avg8, "model": model}
    about["tree"] = f"{__name__}.{tree}" if tree else ""
    about["prepare"] = (prepare[0], f"{__name__}.{prepare[1]}") if prepare else None
    return Entry(name, summary, f"{__name__}.{reader}", paper=paper, about=about)


_VOC: dict[str, Any] = {
    "splits": {"train": 1464, "train_aug": 10582, "val": 1449, "trainval": 2913, "set-aside": None},
    "prepare": ("voc-aug", "voc:augmented"),
    "paper": "Everingham et al., IJCV 2010",
}
_CONTEXT: dict[str, Any] = {
    "splits": {"train": 4998, "val": 5105},
    "prepare": ("context", "context:prepared"),
    "paper": "Mottaghi et al., CVPR 2014",
}
_COCO17: dict[str, Any] = {"splits": {"train": 118287, "val": 5000}}
_OBJECT: dict[str, Any] = _COCO17 | {
    "prepare": ("coco-object", "coco17:prepared_objects"),
    "paper": "Lin et al., ECCV 2014, arXiv 1405.0312",
}
_STUFF: dict[str, Any] = _COCO17 | {
    "prepare": ("coco-stuff", "coco17:prepared_stuff"),
    "paper": "Caesar et al., CVPR 2018, arXiv 1612.03716",
}
_COCO14: dict[str, Any] = {
    "splits": {"train": 82081, "val": 40137},  # pictures with at least one annotated object
    "prepare": ("coco14", "coco14:prepared"),
    "paper": "Lin et al., ECCV 2014, arXiv 1405.0312",
}
_ADE: dict[str, Any] = {
    "splits": {"train": 20210, "val": 2000},
    "paper": "Zhou et al., CVPR 2017, arXiv 1608.05442",
}
_CITY: dict[str, Any] = {
    "splits": {"train": 2975, "val": 500},
    "paper": "Cordts et al., CVPR 2016, arXiv 1604.01685",
}
_PASCAL: dict[str, Any] = _VOC | {
    "kind": "few-shot",
    "splits": {"val": 1000},  # episodes
    "tree": "voc:TREE",
    "paper": "Shaban et al., BMVC 2017, arXiv 1709.03410",
}
_COCO20: dict[str, Any] = _COCO14 | {
    "kind": "few-shot",
    "splits": {"val": 1000},
    "tree": "coco14:TREE",
    "paper": "Nguyen and Todorovic, ICCV 2019, arXiv 1909.13140",
}
_FSS: dict[str, Any] = {
    "kind": "few-shot",
    "splits": {"test": 2400},
    "paper": "Li et al., CVPR 2020, arXiv 1907.12347",
}
_DRAWN: dict[str, Any] = {"splits": {"held-out": 200, "validation": None}, "tree": "", "model": "nano"}

DATASETS = registry(
    _entry("voc21", "PASCAL VOC 2012, 20 classes and background", "voc:voc", avg8=True, **_VOC),
    _entry("voc20", "VOC 2012 without background", "voc:voc", background=False, avg8=True, **_VOC),
    _entry("voc-animals", "VOC's animals and people; of the other classes see voc.py", "voc:voc", **_VOC),
    _entry("context60", "PASCAL Context, 59 classes and background", "context:context", avg8=True, **_CONTEXT),
    _entry("context59", "Context without background", "context:context", background=False, avg8=True, **_CONTEXT),
    _entry("coco-object81", "COCO 2017, 80 things and background", "coco17:coco17", avg8=True, **_OBJECT),
    _entry("coco-stuff171", "COCO-Stuff 164k, 171 classes", "coco17:coco17", background=False, avg8=True, **_STUFF),
    _entry("ade150", "ADE20K, the 150 classes of SceneParse150", "ade:ade", background=False, avg8=True, **_ADE),
    _entry("cityscapes19", "Cityscapes, 19 classes", "cityscapes:cityscapes", background=False, avg8=True, **_CITY),
    _entry("coco14", "COCO 2014, 80 classes and background", "coco14:coco14", **_COCO14),
    _entry("pascal5i", "PASCAL-5i, VOC in four folds", "pascal5i:pascal5i", **_PASCAL),
    _entry("coco20i", "COCO-20i, COCO 2014 in four folds", "coco20i:coco20i", **_COCO20),
    _entry("fss1000", "FSS-1000, its test classes", "fss1000:fss1000", **_FSS),
    _entry("folder", "any folder of images/, masks/ and classes.yaml", "folder:folder"),
    _entry("scenes", "drawn scenes with 12 kinds of things, no files", "scenes:scenes", **_DRAWN),
    _entry("scenes100", "the same scenes asked with 100 names", "scenes:scenes", **_DRAWN),
)
AVG8 = tuple(name for name, entry in DATASETS.items() if entry.about["avg8"])
PREPARATIONS: dict[str, str] = dict(entry.about["prepare"] for entry in DATASETS.values() if entry.about["prepare"])


def official_count(name: str, split: str) -> int | None:
    """Pictures of an official split; None where there is no official number."""
    count: int | None = DATASETS[name].about["splits"].get(split)
    return count
