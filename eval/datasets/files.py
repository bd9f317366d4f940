"""Official layouts on disk: finding a data set's folder, its lists and label maps, and saying what is missing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from clipseg_ws.door import InputError, read_text, user_path
from clipseg_ws.door.pictures import open_picture
from clipseg_ws.files import atomic_write
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.structures import IGNORE
from clipseg_ws.weak.names import split_suffix

_EXIF_ORIENTATION = 0x0112


class DatasetError(InputError):
    """A data set that is missing or incomplete; the message shows the tree that is expected."""


def lookup(mapping: Mapping[int, int], default: int = IGNORE) -> np.ndarray:
    """[256] uint8 table for label maps: ``table[labels]``; what the mapping does not name becomes ``default``."""
    table = np.full(256, default, np.uint8)
    for source, target in mapping.items():
        table[source] = target
    return table


def read_truth(path: Path, table: np.ndarray | None = None) -> np.ndarray:
    """[H, W] uint8 labels of a palette, grey or black-and-white PNG, through ``table`` [256] where given."""
    labels = _black_and_white(path)
    if labels is None:
        labels = read_label_png(path)
    if labels.dtype != np.uint8:
        if labels.max() > IGNORE:
            raise DatasetError(
                f"{str(path)!r} holds 16-bit labels up to {labels.max()}; 8-bit labels 0…255 are expected"
            )
        labels = labels.astype(np.uint8)
    return labels if table is None else table[labels]


def _black_and_white(path: Path) -> np.ndarray | None:
    """0 and 1 of a picture of mode 1, None for another or for what is no picture."""
    try:
        with open_picture(path) as image:
            return np.asarray(image, np.uint8) if image.mode == "1" else None
    except (OSError, InputError):
        return None


def unrotated(path: Path) -> Path | np.ndarray:
    """The path, or the pixels [H, W, 3] as stored where EXIF asks for a rotation: official masks know no EXIF."""
    with open_picture(path) as picture:
        if picture.getexif().get(_EXIF_ORIENTATION, 1) in (0, 1):
            return path
        return np.asarray(picture.convert("RGB"))


def find_root(root: str | Path, name: str, marker: str, inside: Iterable[str], tree: str) -> Path:
    """The first of ``root`` and ``root/inside…`` that holds ``marker``. Raises DatasetError with the expected tree."""
    base = user_path(root)
    for candidate in (base, *(base / part for part in inside)):
        if (candidate / marker).exists():
            return candidate
    problem = "does not exist" if not base.is_dir() else f"holds no {marker}"
    raise DatasetError(f"{name}: {str(base)!r} {problem}; expected:\n{tree}")


def find_folder(base: Path, candidates: tuple[str, ...]) -> Path | None:
    """The first of the sub-folders that exists."""
    return next((base / part for part in candidates if (base / part).is_dir()), None)


def need(path: Path, name: str, tree: str, hint: str = "") -> Path:
    """``path`` if it exists. Raises DatasetError with the expected tree and a hint."""
    if not path.exists():
        raise DatasetError(f"{name}: {str(path)!r} is missing{'; ' + hint if hint else ''}; expected:\n{tree}")
    return path


def read_list(path: Path) -> tuple[str, ...]:
    """Ids of a split file, each once: a name a line, dots and spaces included, without folders and picture suffix.

    Of DeepLab's "/JPEGImages/x.jpg /…png" the first path counts; VOC's class lists ("2007_000001 -1") say 1, 0 or -1
    behind every name.
    """
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if all(re.fullmatch(r"\S+\s+-?[01]", line) for line in lines):
        lines = [line.split()[0] for line in lines]
    firsts = (re.match(r"(.+?\.(?:jpe?g|png|bmp|webp|tiff?))\s+\S", line, re.IGNORECASE) for line in lines)
    names = (first[1] if first else line for first, line in zip(firsts, lines, strict=True))
    return tuple(dict.fromkeys(split_suffix(name.replace("\\", "/").rpartition("/")[2])[0] for name in names))


def write_list(path: Path, ids: Iterable[str]) -> None:
    """Write a split file that `read_list` reads, one id a line."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{id}\n" for id in ids), "utf-8")


def beside(*places: tuple[Path, str]) -> Callable[[str], tuple[Path, ...]]:
    """id -> its files ``folder/id+ending``, one a place: what `Dataset.files` is."""
    return lambda id: tuple(folder / f"{id}{ending}" for folder, ending in places)


def check_files(ids: Iterable[str], places: Sequence[tuple[Path, str]], name: str, tree: str, hint: str = "") -> None:
    """Raises DatasetError if a file ``folder/id+ending`` of any (folder, ending) in ``places`` is missing."""
    folders: dict[Path, set[str]] = {}
    missing = []
    for id in ids:
        for folder, ending in places:
            path = folder / f"{id}{ending}"
            if path.parent not in folders:
                folders[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
            if path.name not in folders[path.parent]:
                missing.append(path)
    if missing:
        some = ", ".join(str(path) for path in missing[:3])
        raise DatasetError(
            f"{name}: {len(missing)} files are missing, e.g. {some}{'; ' + hint if hint else ''}; expected:\n{tree}"
        )
