"""CVAT's format "Segmentation mask 1.1": a zip of coloured masks, to be corrected by people."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported on first use
from PIL import Image

from clipseg_ws.files import atomic_write, zip_entry
from clipseg_ws.output.items import Items, Labels, check_labels, stems
from clipseg_ws.output.palette import ignored_name
from clipseg_ws.stored import voc_palette
from clipseg_ws.structures import IGNORE


def write_cvat(path: str | Path, items: Items, names: Sequence[str]) -> int:
    """A zip in CVAT's format "Segmentation mask 1.1"; returns the number of pictures.

    ``labelmap.txt`` declares the background, every name and, where 255 means ignored, one more label ``ignore`` (or
    ``ignore_255`` if a class has that name). ``SegmentationClass`` holds RGB pictures in those colours,
    ``SegmentationObject`` another colour for every connected region.

    Raises:
        ValueError: names that the label map cannot hold: with ``:``, a line break or ``#`` in front, repeated, or
            "background".
    """
    unfit = [name for name in names if re.search(r"[:\r\n]|^\s*#", name)]
    if unfit or len({"background", *names}) <= len(names):
        problem = unfit or "names that repeat, or one called background"
        raise ValueError(f"CVAT's labelmap.txt cannot hold {problem}; rename, e.g. 'a: b' -> 'a - b'")
    colours = voc_palette(max(256, len(names) + 1))
    done: list[str] = []
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for stem, item in stems(items):
            labels = item.labels
            check_labels(labels, names)
            done.append(stem)
            archive.writestr(_entry(f"SegmentationClass/{stem}.png"), _png(colours[labels]))
            objects = _objects(labels)
            shades = voc_palette(max(256, int(objects.max(initial=0)) + 1))
            archive.writestr(_entry(f"SegmentationObject/{stem}.png"), _png(shades[objects]))
        lines = [f"{name}:{','.join(map(str, colours[label].tolist()))}::\n" for label, name in _declared(names)]
        archive.writestr(_entry("labelmap.txt"), "# label:color_rgb:parts:actions\n" + "".join(lines))
        archive.writestr(_entry("ImageSets/Segmentation/default.txt"), "".join(f"{stem}\n" for stem in done))
    return len(done)


def _entry(name: str) -> zipfile.ZipInfo:
    return zip_entry(name, zipfile.ZIP_DEFLATED)


def _declared(names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(label, name) of every line of the label map."""
    yield from enumerate(("background", *names))
    if (name := ignored_name(names)) is not None:
        yield IGNORE, name


def _objects(labels: Labels) -> npt.NDArray[np.int64]:
    """[H, W] int: 0 background, 1, 2, ... for every 4-connected region of one label."""
    objects = np.zeros(labels.shape, dtype=np.int64)
    for value in np.unique(labels[labels != 0]):
        numbers, _ = scipy.ndimage.label(labels == value)
        objects[numbers > 0] = numbers[numbers > 0] + objects.max(initial=0)
    return objects


def _png(picture: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()
