"""ADE20K (ade150) in its official layout, without background."""

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
    unrotated,
)
from clipseg_ws.eval.guard import Setting

TREE = """  ADEChallengeData2016/
    images/{training,validation}/<id>.jpg
    annotations/{training,validation}/<id>.png   labels 1…150, 0 = other (ignored)"""
FOLDERS = {"train": "training", "val": "validation"}


def ade(name: str, root: str | Path, split: str | None, setting: Setting, prompts: str | None = None) -> Dataset:
    """``ade150``: SceneParse150."""
    split = split or "val"
    if split not in FOLDERS:
        raise DatasetError(f"{name}: unknown split {split!r}; choose from {', '.join(FOLDERS)}")
    folder = FOLDERS[split]
    base = find_root(root, name, "annotations", ("ADEChallengeData2016",), TREE)
    images = need(base / "images" / folder, name, TREE)
    masks = need(base / "annotations" / folder, name, TREE)
    ids = tuple(sorted(path.stem for path in images.glob("*.jpg")))
    if not ids:
        raise DatasetError(f"{name}: no .jpg in {str(images)!r}; expected:\n{TREE}")
    check_files(ids, [(masks, ".png")], name, TREE)
    table = lookup({i: i for i in range(1, 151)})
    return Dataset(
        name, split, setting, vocabulary_of(prompts or "ade150", 150, background=False), ids,
        image=lambda id: unrotated(images / f"{id}.jpg"),
        truth=lambda id: read_truth(masks / f"{id}.png", table),
        background=False, prompts=prompts or "ade150", root=base, expected=official_count(name, split),
        files=beside((images, ".jpg"), (masks, ".png")),
    )  # fmt: skip
