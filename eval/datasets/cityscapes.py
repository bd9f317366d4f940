"""Cityscapes (cityscapes19) in its official layout, without background."""

from __future__ import annotations

from pathlib import Path

from clipseg_ws.eval.datasets import official_count
from clipseg_ws.eval.datasets.dataset import Dataset, vocabulary_of
from clipseg_ws.eval.datasets.files import (
    DatasetError,
    beside,
    check_files,
    find_root,
    lookup,
    need,
    read_truth,
)
from clipseg_ws.eval.guard import Setting

TREE = """  cityscapes/
    leftImg8bit/{train,val}/<city>/<id>_leftImg8bit.png
    gtFine/{train,val}/<city>/<id>_gtFine_labelIds.png   (or _gtFine_labelTrainIds.png)"""
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # label ids of train ids 0…18


def cityscapes(name: str, root: str | Path, split: str | None, setting: Setting, prompts: str | None = None) -> Dataset:
    """``cityscapes19``: the 19 evaluated classes of the fine annotations."""
    split = split or "val"
    base = find_root(root, name, "gtFine", ("cityscapes",), TREE)
    images, masks = need(base / "leftImg8bit" / split, name, TREE), need(base / "gtFine" / split, name, TREE)
    ending = "_leftImg8bit.png"
    ids = tuple(sorted(str(p.relative_to(images))[: -len(ending)] for p in images.glob(f"*/*{ending}")))
    if not ids:
        raise DatasetError(f"{name}: no <city>/*{ending} in {str(images)!r}; expected:\n{TREE}")
    trained = (masks / f"{ids[0]}_gtFine_labelTrainIds.png").is_file()
    mask_ending = "_gtFine_labelTrainIds.png" if trained else "_gtFine_labelIds.png"
    check_files(ids, [(masks, mask_ending)], name, TREE)
    table = lookup({(i if trained else raw): i + 1 for i, raw in enumerate(LABEL_IDS)})
    return Dataset(
        name, split, setting, vocabulary_of(prompts or "cityscapes", 19, background=False), ids,
        image=lambda id: images / f"{id}{ending}",
        truth=lambda id: read_truth(masks / f"{id}{mask_ending}", table),
        background=False, prompts=prompts or "cityscapes", root=base, expected=official_count(name, split),
        notes={"masks": mask_ending}, files=beside((images, ending), (masks, mask_ending)),
    )  # fmt: skip
