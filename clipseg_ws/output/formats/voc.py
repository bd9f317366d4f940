"""VOC layout: label PNGs with VOC's palette, a list of them, and the names of the labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipseg_ws.files import write_text
from clipseg_ws.output.formats.png import write_label_png
from clipseg_ws.output.items import Items, check_labels, stems


def write_voc(folder: str | Path, items: Items, names: Sequence[str], *, split: str = "train") -> int:
    """VOC layout: ``SegmentationClass/<picture>.png`` with VOC's palette and ``ImageSets/Segmentation/<split>.txt``.

    ``class_names.txt`` has the background and the names, a line each, in label order. Returns the number of pictures.
    """
    folder, done = Path(folder), list[str]()
    for stem, item in stems(items):
        check_labels(item.labels, names)
        write_label_png(item.labels, folder / "SegmentationClass" / f"{stem}.png", classes=len(names))
        done.append(stem)
    write_text(folder / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{stem}\n" for stem in done))
    write_text(folder / "class_names.txt", "".join(f"{name}\n" for name in ("background", *names)))
    return len(done)
