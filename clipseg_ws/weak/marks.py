"""Boxes, points and scribbles from files: VOC XML, COCO json, LabelMe json, Label Studio json, scribble PNG.

Every reader gives ``Marks``: picture name -> ``WeakLabels``, names as in ``weak.read_tags`` (path in the file, ``/``
between folders, no suffix). Scribble PNGs are read when they are looked up, so that a large folder needs no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from clipseg_ws.pictures.sources import Source
from clipseg_ws.structures import IGNORE, Vocabulary, WeakLabels, word_key
from clipseg_ws.weak import MARK_FORMATS, titles
from clipseg_ws.weak.names import Names, normal_name, spellings, spelt, stem
from clipseg_ws.weak.readers.forms import Drawn, Marked, read_file, readers
from clipseg_ws.weak.readers.scribbles import read_scribbles
from clipseg_ws.weak.tags import Tags, lookup_tags

STROKE_WIDTH = 3  # pixels, of line strips that are drawn as scribbles


class Marks(Mapping[str, WeakLabels]):
    """Picture name -> its marks; ``dict(marks)`` reads them all at once.

    Args:
        entries: name -> marks, or the path of a scribble PNG that is read on every look-up.
        names: the classes, for the labels of scribble PNGs.
    """

    def __init__(self, entries: Mapping[str, WeakLabels | Path], names: Sequence[str] | None = None) -> None:
        self._entries, self._names = dict(entries), names

    def __getitem__(self, name: str) -> WeakLabels:
        entry = self._entries[name]
        return entry if isinstance(entry, WeakLabels) else WeakLabels(scribbles=read_scribbles(entry, self._names))

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @cached_property
    def keys_as_tags(self) -> Tags:
        """Every name under itself: what ``weak.lookup_tags`` searches."""
        return Tags({name: (name,) for name in self._entries})

    def classes(self) -> tuple[str, ...]:
        """Names that boxes, points and tags use, sorted, without "background"; scribble PNGs hold no names."""
        marks = [entry for entry in self._entries.values() if isinstance(entry, WeakLabels)]
        return tuple(sorted({name for entry in marks for name in mark_names(entry)}))


def read_marks(path: str | Path, names: Names | None = None) -> Marks:
    """Read the marks of many pictures; the kind is told by suffix and content.

    * VOC XML, a file or a folder with sub-folders: ``bndbox`` of every object.
    * COCO json: ``bbox`` of every annotation; a picture without annotations holds no class.
    * LabelMe json, a file or a folder: points, rectangles, line and linestrip (drawn 3 pixels wide as scribbles).
    * Label Studio json: rectanglelabels, keypointlabels, choices (as tags); brush masks and rotated boxes are refused.
    * PNG, a file or a folder: scribbles, 0 background stroke, i + 1 = ``names[i]``, 255 unmarked.

    Args:
        names: the classes that may occur, or a vocabulary whose synonyms count as well; needed where scribbles are
            drawn from lines. "background" may name points and lines. None: any name is taken as it is.

    Raises:
        FileNotFoundError. ValueError: another kind of file, a damaged one, an unknown name, a shape that is no mark.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no marks at {str(path)!r}; allowed: {_allowed()}")
    root = path if path.is_dir() else path.parent
    listed = None if names is None else _listed(names)
    entries: dict[str, WeakLabels | Path] = {}
    for file in _files(path):
        pairs: Marked = read_file(file, file.relative_to(root).with_suffix("").as_posix(), MARK_FORMATS)
        for image, drawn in pairs:
            if isinstance(drawn, Path):
                entries[image] = drawn
                continue
            found = _finished(drawn, names, f"{file}, picture {image!r}")
            before = entries.get(normal_name(image))
            entries[normal_name(image)] = merge_marks(before, found) if isinstance(before, WeakLabels) else found
    shared = Counter(stem(name) for name in entries)  # pictures that differ in the suffix only keep it, as with tags
    return Marks({n if shared[stem(n)] > 1 else stem(n): entry for n, entry in entries.items()}, listed)


def _allowed() -> str:
    return f"{titles(MARK_FORMATS)} (a file or a folder of one kind)"


def _files(path: Path) -> list[Path]:
    """The files of one kind at a path, sorted. Raises ValueError where there is none, or several kinds."""
    files = [p for p in sorted(path.rglob("*")) if p.is_file()] if path.is_dir() else [path]
    kinds = sorted({p.suffix.lower() for p in files} & set(readers(MARK_FORMATS)))
    if len(kinds) != 1:
        found = f"holds {' and '.join(kinds)} files" if kinds else "holds no file of a known kind"
        raise ValueError(f"{str(path)!r} {found}; allowed: {_allowed()}")
    return [p for p in files if p.suffix.lower() == kinds[0]]


def _listed(names: Names) -> list[str]:
    return list(names.names if isinstance(names, Vocabulary) else names)


def lookup_marks(marks: Marks, source: Source | str | Path) -> WeakLabels | None:
    """The marks of one picture, None where the files do not hold it; names are tried as in ``weak.lookup_tags``.

    Raises ValueError where a file name fits several entries, or a scribble PNG that cannot be read.
    """
    found = lookup_tags(marks.keys_as_tags, source)
    return None if found is None else marks[found[0]]


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


def _finished(drawn: Drawn, names: Names | None, where: str) -> WeakLabels:
    """Names checked and spelt as in ``names``, lines drawn."""
    known = spellings(names)

    def one(name: str, ground: bool = True) -> str:
        if ground and word_key(name) == "background":
            return "background"
        found = spelt([name], known, names, where)
        if not found:
            raise ValueError(f"{where}: a mark without a name")
        return found[0]

    marks = drawn.marks
    result = replace(
        marks,
        tags=None if marks.tags is None else tuple(one(tag, False) for tag in marks.tags),
        boxes=tuple((one(name, False), x0, y0, x1, y1) for name, x0, y0, x1, y1 in marks.boxes),
        points=tuple((one(name), x, y) for name, x, y in marks.points),
    )
    lines = [(one(name), points) for name, points in drawn.lines]
    if not lines:
        return result
    if names is None or drawn.size is None:
        missing = "the classes (names=)" if names is None else "imageWidth and imageHeight"
        raise ValueError(f"{where}: lines become scribbles, which needs {missing}")
    return replace(result, scribbles=draw_lines(lines, _listed(names), drawn.size))


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
