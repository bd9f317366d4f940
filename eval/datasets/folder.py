"""Any folder of pictures and masks."""

from __future__ import annotations

from pathlib import Path

from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.files import DatasetError, check_files, need, read_truth
from clipseg_ws.eval.guard import Setting
from clipseg_ws.text.vocabulary import parse_classes

TREE = """  root/
    images/<id>.jpg  (or .jpeg, .png, .webp, .bmp)
    masks/<id>.png   palette or grey; 0 background, i+1 = class i, 255 ignored
    classes.yaml     classes: [cat, "person, people"]"""
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def folder(name: str, root: str | Path, split: str | None, setting: Setting, prompts: str | None = None) -> Dataset:
    """``folder``: ``images/``, ``masks/`` and ``classes.yaml``; ``split`` is a name for the results only."""
    base = need(Path(root).expanduser(), name, TREE)
    images, masks = need(base / "images", name, TREE), need(base / "masks", name, TREE)
    listed = prompts or str(need(base / "classes.yaml", name, TREE))
    found = [p for p in sorted(images.iterdir()) if p.suffix.lower() in PICTURES and not p.name.startswith(".")]
    files = {p.stem: p for p in found}
    if twice := [p.name for p in found if files[p.stem] != p]:
        raise DatasetError(
            f"{name}: {twice[0]!r} and {files[Path(twice[0]).stem].name!r} in {str(images)!r} would share the mask "
            f"{Path(twice[0]).stem}.png; rename one of them"
        )
    if not files:
        raise DatasetError(f"{name}: no picture in {str(images)!r}; expected:\n{TREE}")
    check_files(files, [(masks, ".png")], name, TREE)
    return Dataset(
        name, split or base.resolve().name, setting, parse_classes(listed), tuple(files),
        image=lambda id: files[id], truth=lambda id: read_truth(masks / f"{id}.png"),
        files=lambda id: (files[id], masks / f"{id}.png"),
        prompts=prompts or "classes.yaml", root=base,
    )  # fmt: skip
