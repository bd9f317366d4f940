"""Small folders in the layouts that the training of ``photo`` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

WORDNET = """\
  1 This software and database is being provided to you, the LICENSEE, by
00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which is perceived
00015388 03 n 02 animal 0 beast 0 001 @ 00001740 n 0000 | a living organism
02083346 05 n 02 canine 0 canid 0 001 @ 00015388 n 0000 | fissiped mammals
02084071 05 n 02 dog 0 domestic_dog 0 002 @ 02083346 n 0000 %m 02083346 n 0000 | a member of the genus Canis
02120997 05 n 02 feline 0 felid 0 001 @ 00015388 n 0000 | lithe-bodied mammals
"""


def _picture(path: Path, size: tuple[int, int], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)
    Image.fromarray(values).resize(size).save(path)


def _mask(path: Path, size: tuple[int, int], label: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), np.uint8)
    values[4:20, 8:30] = label
    values[0, :] = 255
    Image.fromarray(values).save(path)


def make_folders(root: Path) -> tuple[Path, Path, Path]:
    """(VOC2012, the small set, object photos): 6, 8 and 6 pictures of several sizes."""
    voc, small, objects = root / "VOC2012", root / "small", root / "objects"
    lists = {"train": ["t0", "t1", "s2"], "val": ["v0", "v1", "v2"]}
    for split, stems in lists.items():
        file = voc / f"ImageSets/Segmentation/{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(stems) + "\n")
        for i, stem in enumerate(stems):
            _picture(voc / f"JPEGImages/{stem}.jpg", (64, 48), i)
            _mask(voc / f"SegmentationClass/{stem}.png", (64, 48), 1 + i)
    stems = [f"s{i}" for i in range(8)]
    for i, stem in enumerate(stems):
        size = (72, 48) if i % 2 else (48, 64)
        _picture(small / f"images/{stem}.jpg", size, 10 + i)
        _mask(small / f"masks/{stem}.png", size, (8, 10, 12, 13, 15, 17, 7, 2)[i])
    (small / "list.txt").write_text("\n".join(stems) + "\n")
    for folder in ("caltech101/dalmatian", "caltech101/BACKGROUND_Google", "pacs/dog", "caltech101/umbrella"):
        for i in range(2 if "dog" not in folder else 1):
            _picture(objects / folder / f"{i}.jpg", (56, 40), 30 + i)
    return voc, small, objects
