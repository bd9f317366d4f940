"""Label maps as training tools read them: COCO, YOLO-seg, VOC. What annotation tools read: ``export_tools``.

Everywhere: ``labels`` [H, W] integer, 0 background, i + 1 = ``names[i]``, 255 ignored (below 255 classes, see
``palette.ignored_label``); ``items`` are (file name of the picture, labels) pairs, taken one by one, so that a
generator over a large folder needs no memory. Files are whole or not there at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy import ndimage

from clipseg_ws.files import atomic_write, write_text
from clipseg_ws.output.outlines import polygons
from clipseg_ws.output.palette import ignored_label

Items = Iterable[tuple[str, np.ndarray]]
STYLES = ("rle", "polygons")


def coco_annotations(
    labels: np.ndarray,
    names: Sequence[str],
    *,
    image_id: int = 1,
    first_id: int = 1,
    style: str = "rle",
    components: bool = False,
    scores: Mapping[str, float] | None = None,
    instances: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """COCO annotations of one picture; category i + 1 is ``names[i]``, pixels labelled 255 belong to none.

    Args:
        style: "rle", the compressed run lengths of pycocotools (extra ``[coco]``); "polygons", exact outlines, one
            list of x, y a region, holes cut in by bridges.
        components: an annotation for every 4-connected region instead of one for every class that occurs.
        scores: name -> image-level score, written into the annotations of that class.
        instances: [H, W] integer, 0 for none: an annotation for every instance of every class (pixels of a class
            without an instance make one more).

    Raises:
        ValueError: an unknown style, labels that are no label map of these names, instances of another size.
    """
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; allowed: {', '.join(STYLES)}, e.g. 'rle'")
    if instances is not None and instances.shape != labels.shape:
        raise ValueError(f"instances are {list(instances.shape)}, the labels {list(labels.shape)}")
    annotations: list[dict[str, Any]] = []
    for category, mask in class_masks(labels, names):
        for part in _parts(mask, components, instances):
            rows, columns = np.nonzero(part.any(1))[0], np.nonzero(part.any(0))[0]
            left, top = int(columns[0]), int(rows[0])
            entry = {
                "id": first_id + len(annotations),
                "image_id": image_id,
                "category_id": category,
                "iscrowd": 0,
                "area": int(part.sum()),
                "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                "segmentation": _coco_rle(part) if style == "rle" else [p.ravel().tolist() for p in polygons(part)],
            }
            if scores is not None and names[category - 1] in scores:
                entry["score"] = float(scores[names[category - 1]])
            annotations.append(entry)
    return annotations


def write_coco(
    path: str | Path,
    items: Items,
    names: Sequence[str],
    *,
    style: str = "rle",
    components: bool = False,
    instances: Callable[[str], np.ndarray | None] | None = None,
) -> int:
    """One COCO json for many pictures, written as the items come; returns the number of annotations.

    ``instances`` gives the instance map of a picture by its name, see ``coco_annotations``.
    """
    images, count = [], 0
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        for image_id, (name, labels) in enumerate(items, start=1):
            height, width = labels.shape
            images.append({"id": image_id, "file_name": name, "width": width, "height": height})
            entries = coco_annotations(
                labels, names, image_id=image_id, first_id=count + 1, style=style, components=components,
                instances=None if instances is None else instances(name),
            )  # fmt: skip
            for entry in entries:
                file.write((",\n" if count else "\n") + json.dumps(entry))
                count += 1
        categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
        file.write(f'\n],\n"images": {json.dumps(images)},\n"categories": {json.dumps(categories)}}}\n')
    return count


def yolo_seg(labels: np.ndarray, names: Sequence[str]) -> str:
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


def write_voc(folder: str | Path, items: Items, names: Sequence[str], *, split: str = "train") -> int:
    """VOC layout: ``SegmentationClass/<picture>.png`` with VOC's palette and ``ImageSets/Segmentation/<split>.txt``.

    ``class_names.txt`` has the background and the names, a line each, in label order. Returns the number of pictures.
    """
    from clipseg_ws.output.files import write_label_png  # on call: output may import this module

    folder, stems = Path(folder), list[str]()
    for stem, labels in stems_and_labels(items):
        check_labels(labels, names)
        write_label_png(labels, folder / "SegmentationClass" / f"{stem}.png", classes=len(names))
        stems.append(stem)
    write_text(folder / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
    write_text(folder / "class_names.txt", "".join(f"{name}\n" for name in ("background", *names)))
    return len(stems)


def check_labels(labels: np.ndarray, names: Sequence[str]) -> None:
    """Raise ValueError unless ``labels`` are an integer [H, W] map of background, ``names`` and ignored pixels."""
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or not labels.size:
        raise ValueError(f"labels must be an integer array [H, W], got {labels.dtype} {list(labels.shape)}")
    unknown = set(np.unique(labels).tolist()) - {*range(len(names) + 1), ignored_label(len(names))}
    if unknown:
        raise ValueError(f"labels {sorted(unknown)[:5]} have no name; allowed: 0 to {len(names)}, and 255 for ignored")


def class_masks(labels: np.ndarray, names: Sequence[str]) -> list[tuple[int, np.ndarray]]:
    """(label, bool mask [H, W]) of every class that occurs."""
    check_labels(labels, names)
    return [(value, labels == value) for value in np.unique(labels).tolist() if 0 < value <= len(names)]


def _parts(mask: np.ndarray, components: bool, instances: np.ndarray | None) -> Iterator[np.ndarray]:
    """Bool masks of what gets an annotation of its own."""
    if instances is not None:
        yield from (mask & (instances == number) for number in np.unique(instances[mask]))
    elif components:
        yield from _regions(mask)
    else:
        yield mask


def _regions(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Bool masks of the 4-connected regions, one after the other."""
    numbers, count = ndimage.label(mask)
    for number in range(1, count + 1):
        yield numbers == number


def _coco_rle(mask: np.ndarray) -> dict[str, Any]:
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise ImportError('COCO run lengths need pycocotools: pip install "clipseg_ws[coco]"') from error
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def stems_and_labels(items: Items) -> Iterator[tuple[str, np.ndarray]]:
    """(picture's relative name without suffix, labels).

    Raises:
        ValueError: a name that leads out of the folder, or two that differ in the suffix only.
    """
    seen = set()
    for name, labels in items:
        place = PurePosixPath(name)
        if not place.name or place.is_absolute() or ".." in place.parts:
            raise ValueError(f"{name!r} is no relative file name; allowed: e.g. 'photos/cat.jpg'")
        stem = str(place.with_suffix(""))
        if stem in seen:
            raise ValueError(f"two pictures would share the file {stem!r}; rename one of them, here {name!r}")
        seen.add(stem)
        yield stem, labels
