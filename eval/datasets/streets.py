"""ADE20K (ade150) and Cityscapes (cityscapes19) in their official layouts; neither protocol has a background."""

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

ADE_TREE = """  ADEChallengeData2016/
    images/{training,validation}/<id>.jpg
    annotations/{training,validation}/<id>.png   labels 1…150, 0 = other (ignored)"""
CITY_TREE = """  cityscapes/
    leftImg8bit/{train,val}/<city>/<id>_leftImg8bit.png
    gtFine/{train,val}/<city>/<id>_gtFine_labelIds.png   (or _gtFine_labelTrainIds.png)"""
ADE_SPLITS = {"train": ("training", 20210), "val": ("validation", 2000)}
CITY_SIZES = {"train": 2975, "val": 500}
CITY_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # label ids of train ids 0…18


def ade150(
    name: str, root: str | Path | None, split: str | None, setting: Setting, prompts: str | None = None
) -> Dataset:
    """``ade150``: SceneParse150."""
    split = split or "val"
    if split not in ADE_SPLITS:
        raise DatasetError(f"{name}: unknown split {split!r}; choose from {', '.join(ADE_SPLITS)}")
    folder, expected = ADE_SPLITS[split]
    base = find_root(root, name, "annotations", ("ADEChallengeData2016",), ADE_TREE)
    images = need(base / "images" / folder, name, ADE_TREE)
    masks = need(base / "annotations" / folder, name, ADE_TREE)
    ids = tuple(sorted(path.stem for path in images.glob("*.jpg")))
    if not ids:
        raise DatasetError(f"{name}: no .jpg in {str(images)!r}; expected:\n{ADE_TREE}")
    check_files(ids, [(masks, ".png")], name, ADE_TREE)
    table = lookup({i: i for i in range(1, 151)})
    return Dataset(
        name, split, setting, vocabulary_of(prompts or "ade150", 150, background=False), ids,
        image=lambda id: unrotated(images / f"{id}.jpg"),
        truth=lambda id: read_truth(masks / f"{id}.png", table),
        background=False, prompts=prompts or "ade150", root=base, expected=expected,
    )  # fmt: skip


def cityscapes19(
    name: str, root: str | Path | None, split: str | None, setting: Setting, prompts: str | None = None
) -> Dataset:
    """``cityscapes19``: the 19 evaluated classes of the fine annotations."""
    split = split or "val"
    base = find_root(root, name, "gtFine", ("cityscapes",), CITY_TREE)
    images, masks = need(base / "leftImg8bit" / split, name, CITY_TREE), need(base / "gtFine" / split, name, CITY_TREE)
    ending = "_leftImg8bit.png"
    ids = tuple(sorted(str(p.relative_to(images))[: -len(ending)] for p in images.glob(f"*/*{ending}")))
    if not ids:
        raise DatasetError(f"{name}: no <city>/*{ending} in {str(images)!r}; expected:\n{CITY_TREE}")
    trained = (masks / f"{ids[0]}_gtFine_labelTrainIds.png").is_file()
    mask_ending = "_gtFine_labelTrainIds.png" if trained else "_gtFine_labelIds.png"
    check_files(ids, [(masks, mask_ending)], name, CITY_TREE)
    table = lookup({(i if trained else raw): i + 1 for i, raw in enumerate(CITY_IDS)})
    return Dataset(
        name, split, setting, vocabulary_of(prompts or "cityscapes", 19, background=False), ids,
        image=lambda id: images / f"{id}{ending}",
        truth=lambda id: read_truth(masks / f"{id}{mask_ending}", table),
        background=False, prompts=prompts or "cityscapes", root=base, expected=CITY_SIZES.get(split),
        notes={"masks": mask_ending},
    )  # fmt: skip
