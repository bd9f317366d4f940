"""YOLO segmentation: a text file of polygons for every picture, and data.yaml."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipseg_ws.files import write_text
from clipseg_ws.output.items import Items, Labels, class_masks, stems_and_labels
from clipseg_ws.output.outlines import polygons


def write_yolo(folder: str | Path, items: Items, names: Sequence[str], *, split: str = "train") -> int:
    """``labels/<split>/<picture>.txt`` for every item, and ``data.yaml``; pictures belong into ``images/<split>/``.

    ``data.yaml`` names the splits that are there; where only one is, it serves for training and validation. Returns
    the number of pictures.
    """
    folder, count = Path(folder), 0
    for stem, labels in stems_and_labels(items):
        write_text(folder / "labels" / split / f"{stem}.txt", yolo_seg(labels, names))
        count += 1
    train, val = (use if (folder / "labels" / use).is_dir() else split for use in ("train", "val"))
    classes = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(names))
    write_text(folder / "data.yaml", f"train: images/{train}\nval: images/{val}\nnames:\n{classes}")
    return count


def yolo_seg(labels: Labels, names: Sequence[str]) -> str:
    """YOLO segmentation text of one picture: a line ``class x1 y1 x2 y2 ...`` for every 4-connected region.

    Classes count from 0; coordinates are shares of width and height in [0, 1]; holes are cut in by bridges. A picture
    without objects gives an empty text.
    """
    scale = 1 / np.array(labels.shape[::-1])  # [2], x then y
    lines = []
    for category, mask in class_masks(labels, names):
        for polygon in polygons(mask):
            values = " ".join(f"{v:.6f}" for v in (polygon * scale).ravel())
            lines.append(f"{category - 1} {values}\n")
    return "".join(lines)
