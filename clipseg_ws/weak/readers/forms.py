"""What a reader of label files is, and the reading of one file by whichever reader recognises it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

from clipseg_ws.registry import Registry
from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak import titles

Tagged: TypeAlias = list[tuple[str, list[str]]]  # what a reader of tags gives: (picture, tags) as written


@dataclass(frozen=True, eq=False)
class Drawn:
    """What a file says of one picture: marks, and lines that are not drawn yet.

    Attributes:
        marks: tags, boxes and points with names as written. lines: (name, corners (x, y)).
        size: (H, W) of the picture where the file knows it.
    """

    marks: WeakLabels
    lines: tuple[tuple[str, tuple[tuple[float, float], ...]], ...] = ()
    size: tuple[int, int] | None = None


Marked: TypeAlias = list[tuple[str, Drawn | Path]]  # of marks: (picture, marks), or a scribble PNG to read later


@dataclass(frozen=True)
class Reader:
    """One form of label files.

    Attributes:
        suffixes: in lower case, with the dot; readers of one suffix have the same ``load``.
        load: what the readers of a suffix look at, from the path.
        recognises: whether what was loaded is of this form.
        read: what was loaded and the picture's name, for forms that hold one picture and are named after it -> pairs
            (picture, tags) for tags, (picture, ``Drawn``) for marks. A ValueError need not name the file; a KeyError,
            TypeError, AttributeError or IndexError says that the file is of no known form.
        folders: whether a folder of such files is read.
    """

    suffixes: tuple[str, ...]
    load: Callable[[Path], Any]
    recognises: Callable[[Any], bool]
    read: Callable[[Any, str], Any]
    folders: bool = True


def readers(table: Registry) -> dict[str, list[Reader]]:
    """Suffix -> its readers, in the table's order."""
    found: dict[str, list[Reader]] = {}
    for entry in table.values():
        reader: Reader = entry.load()
        for suffix in reader.suffixes:
            found.setdefault(suffix, []).append(reader)
    return found


def read_file(path: Path, place: str, table: Registry) -> Any:
    """The pairs of one file, whose suffix is known, by the first reader that recognises it.

    Args:
        place: the picture's name where the file is named after it.

    Raises:
        ValueError: a damaged file, or one that no reader recognises; names it.
    """
    mine = readers(table)[path.suffix.lower()]
    try:
        content = mine[0].load(path)
        for reader in mine:
            if reader.recognises(content):
                return reader.read(content, place)
        held = f"keys {', '.join(sorted(content))[:80]}" if isinstance(content, dict) else repr(content)[:80]
        raise KeyError(held)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        allowed = titles(table)
        raise ValueError(f"{str(path)!r} is none of the known forms ({error!r}); allowed: {allowed}") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error


def load_json(path: Path) -> Any:
    """Raises ValueError for what is not JSON in UTF-8."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error


def load_xml(path: Path) -> ElementTree.Element:
    """The root. Raises ValueError for what is not XML."""
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error
