"""YOLO segmentation: a text file of polygons and a link to the picture for every picture, split, and data.yaml."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import numpy as np

from clipseg_ws.files import write_text
from clipseg_ws.output.items import Items, Labels, class_masks, stems
from clipseg_ws.output.outlines import polygons
from clipseg_ws.output.simplify import simplified
from clipseg_ws.pictures.written import MARKER

SPLITS = ("train", "val")


def write_yolo(
    folder: str | Path, items: Items, names: Sequence[str], *, split: str = "auto", val: float = 0.1,
    tolerance: float = 0.75,
) -> int:  # fmt: skip
    """``labels/<split>/<picture>.txt`` and ``images/<split>/<picture>`` for every item, and ``data.yaml``.

    Pictures whose place is known are linked (copied where links cannot be made); others belong into the same folder.
    ``data.yaml`` names folders that are there. Returns the number of pictures.

    Args:
        split: "train" or "val" for all pictures of this call; "auto": a share ``val`` of them, chosen by their names,
            is for validation, at least one of two or more. Where only one split is there it serves for both.
        tolerance: most pixels by which an outline may move so that it has fewer corners; 0: exact. From 0.71 on the
            stairs of a slanted border become a line.

    Raises:
        ValueError: another split, a share outside (0, 1), a negative tolerance, names that collide.
    """
    if split not in ("auto", *SPLITS) or not 0 < val < 1 or not tolerance >= 0:
        raise ValueError(
            f"split={split!r}, val={val}, tolerance={tolerance}; allowed: auto, train or val, a share in (0, 1), a "
            "number of pixels from 0 on, e.g. split=auto, val=0.1, tolerance=0.75"
        )
    folder = Path(folder)
    members: dict[str, list[PurePosixPath]] = {use: [] for use in SPLITS}
    for stem, item in stems(items):
        use = split if split != "auto" else SPLITS[zlib.crc32(stem.encode()) / 2**32 < val]
        picture = PurePosixPath(stem + PurePosixPath(item.name).suffix)
        for other in SPLITS:
            if other != use and split == "auto":  # of an earlier run
                _remove(folder, other, picture)
        write_text(_text(folder, use, picture), yolo_seg(item.labels, names, tolerance))
        if item.location is not None:
            _link(Path(item.location), folder / "images" / use / picture)
        members[use].append(picture)
    if split == "auto":
        _fill(folder, members)
    _write_data(folder, names, [use for use in SPLITS if members[use]])
    return sum(map(len, members.values()))


def yolo_seg(labels: Labels, names: Sequence[str], tolerance: float = 0.0) -> str:
    """YOLO segmentation text of one picture: a line ``class x1 y1 x2 y2 ...`` for every 4-connected region.

    Classes count from 0; coordinates are shares of width and height in [0, 1]; holes are cut in by bridges. A picture
    without objects gives an empty text. No line has fewer than three corners: with two it would be read as a box.

    Args:
        tolerance: as for ``write_yolo``.
    """
    scale = 1 / np.array(labels.shape[::-1])  # [2], x then y
    lines = []
    for category, mask in class_masks(labels, names):
        for polygon in polygons(mask):
            values = " ".join(f"{v:.6f}" for v in (simplified(polygon, tolerance) * scale).ravel())
            lines.append(f"{category - 1} {values}\n")
    return "".join(lines)


def _fill(folder: Path, members: dict[str, list[PurePosixPath]]) -> None:
    """Move a picture into a split that got none, where there are two or more."""
    for empty, full in (SPLITS, SPLITS[::-1]):
        if not members[empty] and len(members[full]) > 1:
            picture = members[full].pop()
            for kind, name in (("labels", picture.with_suffix(".txt")), ("images", picture)):
                old, new = folder / kind / full / name, folder / kind / empty / name
                if kind == "labels":
                    old, new = _text(folder, full, picture), _text(folder, empty, picture)
                if old.exists():
                    new.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(old, new)
            members[empty].append(picture)


def _text(folder: Path, use: str, picture: PurePosixPath) -> Path:
    """YOLO replaces the last suffix of the picture's name."""
    stem = picture.name[: len(picture.name) - len(picture.suffix)]
    return folder / "labels" / use / picture.parent / f"{stem}.txt"


def _remove(folder: Path, use: str, picture: PurePosixPath) -> None:
    for path in (_text(folder, use, picture), folder / "images" / use / picture):
        path.unlink(missing_ok=True)


def _link(source: Path, place: Path) -> None:
    """The picture beside its labels. A copy where the system makes no links, nothing where it cannot be read."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    try:
        place.symlink_to(source.absolute())
    except OSError:
        with suppress(OSError):
            shutil.copyfile(source, place)


def _write_data(folder: Path, names: Sequence[str], now: Sequence[str]) -> None:
    there = [use for use in SPLITS if use in now or (folder / "labels" / use).is_dir()] or ["train"]
    for use in there:
        (folder / "images" / use).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / use).mkdir(parents=True, exist_ok=True)
    train, val = (use if use in there else there[0] for use in SPLITS)
    write_text(folder / MARKER, "clipseg-ws writes here; its files are never read as pictures\n")
    classes = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(names))
    write_text(folder / "data.yaml", f"train: images/{train}\nval: images/{val}\nnames:\n{classes}")
