"""What a reader of label files is, and the reading of one file by whichever reader recognises it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar
from xml.etree import ElementTree

from clipseg_ws.door.documents import parse_json, read_xml
from clipseg_ws.door.errors import InputError, one_line, reason
from clipseg_ws.door.pictures import check_size
from clipseg_ws.door.plain import read_text
from clipseg_ws.registry import Registry
from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak import titles
from clipseg_ws.weak.written import Name

Box: TypeAlias = tuple[str, float, float, float, float]  # name, x0, y0, x1, y1
FAR = 1e7  # of a coordinate; no picture reaches it
Content = TypeVar("Content")


@dataclass(frozen=True)
class Found(Generic[Content]):
    """What a file says of one picture.

    Attributes:
        name: how the file names the picture; None where an entry belongs to none.
        content: tags as written, or marks; None where no entry of the picture can be used.
        problems: entries that cannot be used, each with its place in the file and what is wrong.
    """

    name: Name | None
    content: Content | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Drawn:
    """Marks as a file holds them, in its own frame.

    Attributes:
        marks: tags, boxes and points with names as written. lines: (name, corners (x, y)), not drawn yet.
        size: (H, W) of the picture for which the file was written, where it says so.
        percent: coordinates are per cent of the picture's sides; then ``size`` only says for which aspect.
    """

    marks: WeakLabels
    lines: tuple[tuple[str, tuple[tuple[float, float], ...]], ...] = ()
    size: tuple[int, int] | None = None
    percent: bool = False


Tagged: TypeAlias = list[Found[list[str]]]  # what a reader of tags gives
Marked: TypeAlias = list[Found[Drawn | Path]]  # of marks; a path is a scribble PNG to read later


@dataclass(frozen=True)
class Reader:
    """One form of label files.

    Attributes:
        suffixes: in lower case, with the dot; readers of one suffix have the same ``load``.
        load: what the readers of a suffix look at, from the path.
        recognises: whether what was loaded is of this form.
        read: what was loaded and the picture's name, for forms that hold one picture and are named after it ->
            ``Tagged`` or ``Marked``. A ValueError need not name the file; a KeyError, TypeError, AttributeError or
            IndexError says that the file is of no known form.
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
    """What one file, whose suffix is known, holds, by the first reader that recognises it.

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
        raise KeyError(_described(content))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        allowed, shown = titles(table), one_line(repr(error), 120)
        raise InputError(f"{str(path)!r} is none of the known forms ({shown}); allowed: {allowed}") from error
    except FileNotFoundError:
        raise
    except InputError as error:
        raise error if error.file else InputError(str(error), file=path) from error
    except ValueError as error:
        raise InputError(str(error), file=path) from error
    except Exception as error:  # numbers beyond all measure, nesting, memory
        raise InputError(f"cannot be read: {reason(error)}", file=path) from error


def read_files(files: Iterable[tuple[Path, str]], table: Registry) -> list[tuple[Path, Found[Any]]]:
    """What several files hold, each with its own ``place``, as ``read_file``.

    A damaged one among others is left out: an entry under its own name says why. Raises ValueError where none can be
    read.
    """
    listed, found, errors = list(files), list[tuple[Path, Found[Any]]](), list[ValueError]()
    for file, place in listed:
        try:
            found += [(file, entry) for entry in read_file(file, place, table)]
        except ValueError as error:
            errors.append(error)
            found.append((file, Found(Name((place,), implied=True), None, (str(error),))))
    if errors and len(errors) == len(listed):
        raise errors[0]
    return found


def _described(content: Any) -> str:
    """What a file of no known form holds, by its name where that is known."""
    if isinstance(content, ElementTree.Element):
        return f"XML <{content.tag}>"
    if isinstance(content, dict):
        if any("caption" in item for item in _dicts(content.get("annotations"))):
            return "COCO captions, which name no classes"
        return f"keys {', '.join(map(str, sorted(content)))[:80]}"
    if any({"image_id", "category_id"} <= item.keys() for item in _dicts(content)):
        return "a COCO result list, which holds no file names; give the json with images and categories"
    return repr(content)[:80]


def _dicts(content: Any) -> list[dict[str, Any]]:
    return [item for item in content[:5] if isinstance(item, dict)] if isinstance(content, list) else []


def numbers(values: Iterable[Any]) -> tuple[float, ...]:
    """Finite numbers out of what a file holds. Raises ValueError."""
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"no numbers: {one_line(error, 120)}") from error
    if not all(math.isfinite(value) for value in found):
        raise ValueError(f"numbers that are not finite: {found}")
    if not all(-FAR <= value <= FAR for value in found):
        raise ValueError(f"numbers that lie in no picture: {found}")
    return found


def around(name: str, corners: Iterable[tuple[float, float]]) -> Box:
    """The box around corners (x, y). Raises ValueError where there are none."""
    xs, ys = zip(*corners, strict=True)
    return (name, min(xs), min(ys), max(xs), max(ys))


def turned_corners(x: float, y: float, width: float, height: float, degrees: float) -> list[tuple[float, float]]:
    """Corners of a box with its top left at (x, y), turned clockwise around that corner."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    flat = ((0.0, 0.0), (width, 0.0), (width, height), (0.0, height))
    return [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in flat]


def stated_size(height: Any, width: Any) -> tuple[int, int] | None:
    """(H, W) where both are above 0; tools write 0 or null for what they do not know.

    Raises InputError for a size that no picture has.
    """
    try:
        size = (int(float(height)), int(float(width)))
    except (TypeError, ValueError, OverflowError):
        return None
    if min(size) < 1:
        return None
    check_size(size[1], size[0])
    return size


def load_json(path: Path) -> Any:
    """JSON, or JSON lines (a value a line) as a list. Raises InputError for what is neither."""
    text = read_text(path)
    try:
        return parse_json(text, path)
    except InputError as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) < 2:
            raise
        try:
            return [parse_json(line, path, f"JSON (line {number})") for number, line in lines]
        except InputError:
            if path.suffix.lower() == ".jsonl":
                raise
            raise error from None


def load_xml(path: Path) -> ElementTree.Element:
    """The root, in whatever encoding the file declares. Raises InputError for what is not XML."""
    return read_xml(path)
