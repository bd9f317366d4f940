"""Tiny data sets in the real layouts, written to a folder; shared by the evaluation tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (12, 16)  # h, w: not square


def picture(path: Path, seed: int = 0, size=SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path: Path, labels: np.ndarray, palette: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if palette:
        image.putpalette([i // 3 for i in range(768)])
    image.save(path)


def stripes(*values: int, size=SIZE) -> np.ndarray:
    """Vertical stripes of the given labels."""
    labels = np.zeros(size, np.uint8)
    for value, columns in zip(values, np.array_split(np.arange(size[1]), len(values)), strict=True):
        labels[:, columns] = value
    return labels


def listing(path: Path, ids) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{id}\n" for id in ids))


def voc(root: Path, masks: dict[str, np.ndarray], split: str = "val", folder: str = "SegmentationClass") -> Path:
    base = root / "VOCdevkit" / "VOC2012"
    for i, (id, labels) in enumerate(masks.items()):
        picture(base / "JPEGImages" / f"{id}.jpg", i, labels.shape)
        mask(base / folder / f"{id}.png", labels)
    listing(base / "ImageSets" / "Segmentation" / f"{split}.txt", masks)
    return base


def annotation(path: Path, objects) -> None:
    """A VOC annotation; objects are (name, xmin, ymin, xmax, ymax) counted from 1, ends inclusive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    items = "".join(
        f"<object><name>{n}</name><difficult>0</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for n, a, b, c, d in objects
    )
    path.write_text(f"<annotation><filename>{path.stem}.jpg</filename>{items}</annotation>")


def context(root: Path, masks: dict[str, np.ndarray]) -> Path:
    base = root / "VOC2010"
    for i, (id, labels) in enumerate(masks.items()):
        picture(base / "JPEGImages" / f"{id}.jpg", i, labels.shape)
        mask(base / "SegmentationClassContext" / f"{id}.png", labels)
    listing(base / "ImageSets" / "SegmentationContext" / "val.txt", masks)
    return base


def plain(root: Path, masks: dict[str, np.ndarray], classes: str = "[cat, dog]") -> Path:
    for i, (id, labels) in enumerate(masks.items()):
        picture(root / "images" / f"{id}.jpg", i, labels.shape)
        mask(root / "masks" / f"{id}.png", labels, palette=False)
    (root / "classes.yaml").write_text(f"classes: {classes}\n")
    return root
