"""What the product wrote is no input: output folders, and results that lie beside the pictures.

A folder that a command fills is marked (``mark_output``) unless it holds pictures of somebody else's. A result beside
its picture is known by the JSON record of its run, or by the note that a PNG carries (``NOTE``).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

from clipseg_ws.door.documents import read_json
from clipseg_ws.door.plain import open_data

MARKER = ".written_by_clipseg_ws"  # a file of this name makes a folder an output folder
NOTE = b"Software\x00clipseg_ws"  # PNG text chunk of a result
FOLDER_ENDINGS = ("_masks", "_cutout")  # formats that make a folder for each picture
# what output.formats.FORMATS put between a stem and a suffix; a test compares them
OUTPUT_ENDINGS = ("_overlay", "_sheet", "_confidence", "_rle", "_polygons", *FOLDER_ENDINGS)
_ENDING = re.compile(rf"({'|'.join(OUTPUT_ENDINGS)})+$")


@cache
def png_note() -> PngInfo:
    """What ``Image.save(..., pnginfo=)`` takes so that a PNG carries ``NOTE``."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", "clipseg_ws")
    return info


def mark_output(folder: str | Path) -> bool:
    """Make the folder and mark it as output, so that no later run takes its files for pictures.

    A folder that holds files of somebody else's (anything but hidden files, and not marked yet) is left unmarked.
    Returns whether it is marked.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / MARKER
    if not marker.exists():
        if any(entry.name[0] != "." for entry in os.scandir(folder)):
            return False
        marker.write_text("clipseg-ws writes here; its files are never read as pictures\n", encoding="utf-8")
    return True


def is_output(folder: str | Path, output: str | Path | None = None) -> bool:
    """Whether a folder is ``output`` or is marked as the output of another run."""
    if output is not None and os.path.realpath(folder) == os.path.realpath(output):
        return True
    return (Path(folder) / MARKER).is_file()


def in_output(file: str | Path, output: str | Path | None) -> bool:
    """Whether a file lies below ``output``."""
    return output is not None and Path(os.path.realpath(output)) in Path(os.path.realpath(file)).parents


def own_files(folder: str | Path, names: Iterable[str]) -> list[Path]:
    """The files of a folder that the product did not write. Only PNGs that may be results are opened."""
    listed = list(names)
    stems = [Path(name).stem for name in listed]
    counts = Counter(stems)
    kept = []
    for name, stem in zip(listed, stems, strict=True):
        suspect = name.lower().endswith(".png") and (counts[stem] > 1 or _ENDING.search(stem) is not None)
        if not (suspect and was_written(Path(folder, name))):
            kept.append(Path(folder, name))
    return kept


def was_written(path: str | Path) -> bool:
    """Whether the product wrote this picture: the PNG says so, or the record of the run beside it does."""
    path = Path(path)
    if path.suffix.lower() != ".png":
        return False
    try:
        with open_data(path) as file:
            if NOTE in file.read(4096):
                return True
        record = path.with_name(_ENDING.sub("", path.stem) + ".json")
        if not record.is_file() or record.stat().st_size > 10_000_000:
            return False
        content = read_json(record)
    except (OSError, ValueError):
        return False
    return (
        isinstance(content, dict) and {"setting", "version"} <= content.keys() and path.name in content.get("files", ())
    )
