"""A folder for each picture with a file for every class that occurs: binary masks, or the classes cut out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from clipseg_ws.files import atomic_folder
from clipseg_ws.output.items import class_masks
from clipseg_ws.output.things import cutout
from clipseg_ws.structures import Result


def write_masks(result: Result, path: Path, files: Sequence[str]) -> None:
    """``<class>.png``, 8-bit grey: 255 inside, 0 outside. A picture without classes makes an empty folder."""
    names = class_files(result.names)
    with atomic_folder(path) as folder:
        for label, mask in class_masks(result.labels, result.names):
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / names[label - 1])


def write_cutouts(result: Result, path: Path, files: Sequence[str]) -> None:
    """``<class>.png``, RGBA of the picture's size: the class's pixels, all others transparent (and black)."""
    names = class_files(result.names)
    with atomic_folder(path) as folder:
        for label, _ in class_masks(result.labels, result.names):
            cutout(result, result.names[label - 1]).save(folder / names[label - 1])


def class_files(names: Sequence[str]) -> list[str]:
    """A file name for every class: its name with ``_`` for what file systems forbid, cut after 60 letters.

    Where that is empty or the same for two classes (upper case counts as lower) ``#`` and the label follow. The files
    of a class have the same name in every picture.
    """
    safe = [re.sub(r"[^\w .()+-]", "_", name)[:60].strip(". ") for name in names]
    counts = Counter(name.casefold() for name in safe)
    alone = [bool(name) and counts[name.casefold()] == 1 for name in safe]
    return [f"{name}.png" if alone[i] else f"{name}#{i + 1}.png" for i, name in enumerate(safe)]
