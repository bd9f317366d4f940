"""Boxes, points and scribbles from files, each on the picture that it belongs to; ``MARK_FORMATS`` lists the forms.

``read_marks`` gives ``Marks``: picture name -> ``WeakLabels``, names as in ``tags.read_tags`` (path in the file, ``/``
between folders, no suffix). Scribble PNGs are read when they are looked up, so that a large folder needs no memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from clipseg_ws.pictures.reading import stored_size
from clipseg_ws.pictures.sources import Source
from clipseg_ws.structures import IGNORE, Vocabulary, WeakLabels, word_key
from clipseg_ws.weak import MARK_FORMATS, titles
from clipseg_ws.weak.collecting import collect, warn_of
from clipseg_ws.weak.matching import Entries
from clipseg_ws.weak.named import with_names
from clipseg_ws.weak.names import Names, spellings
from clipseg_ws.weak.placing import check_inside, on_picture
from clipseg_ws.weak.readers.forms import Drawn, Found, read_files, readers
from clipseg_ws.weak.readers.scribbles import read_scribbles
from clipseg_ws.weak.written import Name

STROKE_WIDTH = 3  # pixels, of line strips that are drawn as scribbles
Part = tuple[str, Drawn | Path]  # where it stands, marks with their final names


class Marks(Mapping[str, WeakLabels]):
    """Picture name -> its marks in the frame of the file; ``of(source)`` gives them in the picture's frame.

    Args:
        entries: name -> marks as read, one a file entry. names: the classes, for scribbles.
        written: name -> how the file names the picture. broken: name -> why its entry cannot be used.
        where: the file or folder. problems: entries that were left out.
    """

    def __init__(
        self,
        entries: Mapping[str, Sequence[Part]],
        names: Sequence[str] | None = None,
        written: Mapping[str, Name] | None = None,
        broken: Mapping[str, str] | None = None,
        where: str = "the marks",
        problems: Sequence[str] = (),
    ) -> None:
        self._entries, self._names, self.where = dict(entries), names, where
        self.written, self.broken, self.problems = dict(written or {}), dict(broken or {}), list(problems)
        self.placed: dict[str, int] = {}  # what was done to marks -> to how many pictures

    def __getitem__(self, name: str) -> WeakLabels:
        if name in self.broken:
            raise ValueError(self.broken[name])
        return self._joined(self._entries[name], None)

    def __iter__(self) -> Iterator[str]:
        return iter((*self._entries, *self.broken))

    def __len__(self) -> int:
        return len(self._entries) + len(self.broken)

    @cached_property
    def entries(self) -> Entries:
        """The names, ready to be matched with pictures."""
        return Entries({name: self.written.get(name, Name((name,))) for name in self}, self.where)

    @property
    def unnamed(self) -> bool:
        """Whether there are scribbles whose labels need the classes (``names``) to mean anything."""
        return self._names is None and any(isinstance(m, Path) for parts in self._entries.values() for _, m in parts)

    def classes(self) -> tuple[str, ...]:
        """Names that boxes, points and tags use, sorted, without "background"; scribble PNGs hold no names."""
        marks = [m.marks for parts in self._entries.values() for _, m in parts if isinstance(m, Drawn)]
        lines = {
            name for parts in self._entries.values() for _, m in parts if isinstance(m, Drawn) for name, _ in m.lines
        }
        return tuple(sorted({name for entry in marks for name in mark_names(entry)} | (lines - {"background"})))

    def of(self, source: Source | str | Path) -> WeakLabels | None:
        """As ``lookup_marks``."""
        key = self.entries.find(source)
        if key is None:
            return None
        if key in self.broken:
            raise ValueError(self.broken[key])
        return self._joined(self._entries[key], source)

    def _joined(self, parts: Sequence[Part], source: Source | str | Path | None) -> WeakLabels:
        labels = [self._one(where, part, source) for where, part in parts]
        result = labels[0]
        for more in labels[1:]:
            result = merge_marks(result, more)
        return result

    def _one(self, where: str, part: Drawn | Path, source: Source | str | Path | None) -> WeakLabels:
        if isinstance(part, Path):
            return WeakLabels(scribbles=read_scribbles(part, self._names))
        drawn = bool(part.marks.boxes or part.marks.points or part.lines)
        if source is not None and drawn and (part.size is not None or part.percent or part.lines):
            part = self._on_picture(where, part, source)
        elif drawn and part.percent:
            part = on_picture(part, part.size or _no_size(where), 1, where)[0]
        if not part.lines:
            return part.marks
        if self._names is None or part.size is None:
            missing = "the classes (names=)" if self._names is None else "imageWidth and imageHeight"
            raise ValueError(f"{where}: lines become scribbles, which needs {missing}")
        return replace(part.marks, scribbles=draw_lines(part.lines, self._names, part.size))

    def _on_picture(self, where: str, part: Drawn, source: Source | str | Path) -> Drawn:
        found = stored_size(source)
        if found is None:  # no such file: reading it will say so
            return on_picture(part, part.size or _no_size(where), 1, where)[0] if part.size or part.percent else part
        size, orientation = found
        where = f"{where}, picture {str(source)!r}"
        placed, done = on_picture(part, size, orientation, where)
        check_inside(placed, size, where)
        if done:
            kind = done.split(" ", 1)[0]
            self.placed[kind] = self.placed.get(kind, 0) + 1
            if self.placed[kind] == 1:
                warn_of([f"{where}: {done}; the same is done for all such pictures"], "labels of another size")
        return placed


def _no_size(where: str) -> tuple[int, int]:
    raise ValueError(f"{where}: coordinates are per cent of the picture, which is not there")


def read_marks(path: str | Path, names: Names | None = None) -> Marks:
    """Read the marks of many pictures; the kind is told by suffix and content.

    * VOC XML, a file or a folder with sub-folders: ``bndbox`` of every object. CVAT's XML: boxes, points, lines.
    * COCO json: ``bbox`` of every annotation; a picture without annotations holds no class.
    * LabelMe json, a file or a folder: points, rectangles, line and linestrip (drawn 3 pixels wide as scribbles).
    * Label Studio json: rectanglelabels, keypointlabels, choices (as tags).
    * Of polygons, circles, ellipses and masks of all these tools the box around them counts.
    * PNG, a file or a folder: scribbles, 0 background stroke, i + 1 = ``names[i]``, 255 unmarked; beside JSON or XML
      files PNGs are the pictures.

    Entries that cannot be used, and damaged files of a folder, are left out with a warning that names them.

    Args:
        names: the classes that may occur, or a vocabulary whose synonyms count as well; needed where scribbles are
            drawn from lines. "background" may name points and lines. None: any name is taken as it is.

    Raises:
        FileNotFoundError. ValueError: another kind of file, a damaged one, an unknown name, a shape that is no mark.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"no marks at {str(path)!r}; allowed: {_allowed()}")
    root = path if path.is_dir() else path.parent
    files = [(file, file.relative_to(root).with_suffix("").as_posix()) for file in _files(path)]
    found: list[tuple[Path, Found[Drawn | Path]]] = read_files(files, MARK_FORMATS)
    table = collect(found)
    listed, known = None if names is None else _listed(names), spellings(names)
    entries: dict[str, list[Part]] = {}
    for key, parts in table.contents.items():
        name = str(table.names[key])
        entries[key] = [
            (where, part if isinstance(part, Path) else with_names(part, names, known, f"{where}, picture {name!r}"))
            for where, part in parts
        ]
    if listed is None and any(isinstance(m, Drawn) and m.lines for parts in entries.values() for _, m in parts):
        raise ValueError(f"{path}: lines become scribbles, which needs the classes (names=)")
    return Marks(entries, listed, table.names, table.broken, str(path), table.problems)


def _allowed() -> str:
    return f"{titles(MARK_FORMATS)} (a file or a folder of one kind)"


def _files(path: Path) -> list[Path]:
    """The files of one kind at a path, sorted. Raises ValueError where there is none, or several kinds."""
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and p.name[0] != "."] if path.is_dir() else [path]
    kinds = sorted({p.suffix.lower() for p in files} & set(readers(MARK_FORMATS)))
    if len(kinds) == 2 and ".png" in kinds:
        kinds.remove(".png")  # the pictures, as LabelMe puts its files beside them
    if len(kinds) != 1:
        found = f"holds {' and '.join(kinds)} files" if kinds else "holds no file of a known kind"
        raise ValueError(f"{str(path)!r} {found}; allowed: {_allowed()}")
    return [p for p in files if p.suffix.lower() == kinds[0]]


def _listed(names: Names) -> list[str]:
    return list(names.names if isinstance(names, Vocabulary) else names)


def lookup_marks(marks: Marks, source: Source | str | Path) -> WeakLabels | None:
    """The marks of one picture, in its pixels, None where the files do not hold it; the rule stands in ``matching.py``.

    Marks that were made for the picture in another size are scaled, those of its stored frame turned as EXIF says.

    Raises:
        ValueError: several entries fit, the entry cannot be used, it was made for a picture of another aspect.
    """
    return marks.of(source)


def merge_marks(first: WeakLabels, second: WeakLabels) -> WeakLabels:
    """Marks of both kinds for one picture; the second's scribbles lie over the first's.

    Known tags are joined; tags of one and none known of the other stay those of the one. Raises ValueError for
    scribbles of two sizes.
    """
    tags = first.tags if second.tags is None else second.tags
    if first.tags is not None and second.tags is not None:
        tags = tuple(dict.fromkeys(first.tags + second.tags))
    drawn = first.scribbles if second.scribbles is None else second.scribbles
    if first.scribbles is not None and second.scribbles is not None:
        if first.scribbles.shape != second.scribbles.shape:
            raise ValueError(f"scribbles of {first.scribbles.shape} and {second.scribbles.shape} for one picture")
        drawn = np.where(second.scribbles == IGNORE, first.scribbles, second.scribbles)
    return WeakLabels(tags, first.boxes + second.boxes, first.points + second.points, drawn)


def mark_names(marks: WeakLabels) -> set[str]:
    """Classes that tags, boxes and points name, without "background"; scribbles hold numbers only."""
    named = {*(marks.tags or ()), *(box[0] for box in marks.boxes), *(point[0] for point in marks.points)}
    return {name for name in named if word_key(name) != "background"}


def draw_lines(
    lines: Iterable[tuple[str, Sequence[tuple[float, float]]]], names: Sequence[str], size: tuple[int, int]
) -> npt.NDArray[np.uint8]:
    """Scribble map [H, W] uint8 of (name, corners (x, y)) lines, each ``STROKE_WIDTH`` wide; later ones lie on top.

    Raises ValueError for a line of the 255th class or a later one, which 8 bits do not hold beside 255 for unmarked.
    """
    sheet = Image.new("L", (size[1], size[0]), IGNORE)
    pen = ImageDraw.Draw(sheet)
    label: dict[str, Any] = {name: i + 1 for i, name in enumerate(names)} | {"background": 0}
    for name, corners in lines:
        if label[name] >= IGNORE:
            raise ValueError(
                f"a line of {name!r}, class {label[name]}: scribbles hold {IGNORE - 1} classes; use points or boxes"
            )
        pen.line([(int(x), int(y)) for x, y in corners], fill=label[name], width=STROKE_WIDTH)
    return np.array(sheet)
