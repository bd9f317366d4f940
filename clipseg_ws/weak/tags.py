"""Weak labels from files: which classes are in which picture, from CSV, JSON, COCO json, VOC or CVAT XML, or folders.

All readers give ``Tags``: picture name -> tags. A picture's name is its path as written in the file, ``/`` between
folders, without suffix; where two pictures differ in the suffix only (``a.jpg``, ``a.png``) both names keep it. Which
picture an entry belongs to is decided in ``matching.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from clipseg_ws.pictures.sources import Source
from clipseg_ws.weak import TAG_FORMATS, titles
from clipseg_ws.weak.collecting import collect
from clipseg_ws.weak.matching import Entries
from clipseg_ws.weak.names import Names, spellings, spelt, split_tags
from clipseg_ws.weak.readers.forms import Found, read_files, readers
from clipseg_ws.weak.written import Name


class Tags(dict[str, tuple[str, ...]]):
    """Picture name -> tags, in the file's order, each once; ``()`` for a picture that is known to hold no class.

    Attributes:
        written: name -> how the file names the picture. where: the file.
        broken: name -> why its entry cannot be used; such names are not among the tags.
        problems: entries that were left out.
    """

    def __init__(self, tags: Mapping[str, tuple[str, ...]] | None = None, where: str = "the tag file") -> None:
        super().__init__(tags or {})
        self.where, self.written, self.broken = where, dict[str, Name](), dict[str, str]()
        self.problems: list[str] = []

    @cached_property
    def entries(self) -> Entries:
        """The names, ready to be matched with pictures; made when the tags are complete."""
        names = {name: self.written.get(name, Name((name,))) for name in (*self, *self.broken)}
        return Entries(names, self.where)

    def of(self, source: Source | str | Path) -> tuple[str, ...] | None:
        """As ``lookup_tags``."""
        key = self.entries.find(source)
        if key in self.broken:
            raise ValueError(self.broken[key])
        return None if key is None else self[key]


def read_tags(path: str | Path, names: Names | None = None) -> Tags:
    """Read image tags.

    * CSV (commas, semicolons or tabs): columns ``image`` (or file, filename, path, ...) and ``tags`` (or labels,
      classes, category, ...), several tags joined by ``;`` or ``|``, or one row a tag. Without such a heading: the
      picture first, tags in all others.
    * JSON: ``{"a.jpg": ["cat"]}`` or ``[{"image": "a.jpg", "tags": ["cat"]}]``, or such an entry a line; COCO json: the
      categories annotated.
    * VOC XML, a file or a folder of them, sub-folders too: the object names; CVAT's XML: all labels of a picture.

    "background" is no tag and is left out. Entries, and damaged files of a folder, are left out with a warning.

    Args:
        names: the classes that may occur, or a vocabulary whose synonyms count as well; letter case does not matter,
            the result has the spelling of ``names``. None: any tag is taken as it is, numbers and lists excepted.

    Raises:
        FileNotFoundError. ValueError: another kind of file, a damaged one, or a tag that is not in ``names``.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"no tags at {str(path)!r}; allowed: {titles(TAG_FORMATS)}")
    found: list[tuple[Path, Found[list[str]]]] = read_files(_files(path), TAG_FORMATS)
    table, known = collect(found), spellings(names)
    result = Tags(where=str(path))
    result.written, result.broken, result.problems = table.names, table.broken, table.problems
    for key, parts in table.contents.items():
        name = str(table.names[key])
        spelt_parts = [spelt(tags, known, names, f"{where}, picture {name!r}") for where, tags in parts]
        result[key] = tuple(dict.fromkeys(tag for part in spelt_parts for tag in part))
    return result


def _files(path: Path) -> list[tuple[Path, str]]:
    """(file, name of its picture) of a file, or of those in a folder whose form is read from folders."""
    known = readers(TAG_FORMATS)
    if not path.is_dir():
        if path.suffix.lower() not in known:
            allowed = titles(TAG_FORMATS)
            raise ValueError(f"cannot tell the kind of {str(path)!r} by its suffix; allowed: {allowed}")
        return [(path, path.stem)]
    suffixes = [suffix for suffix, mine in known.items() if any(reader.folders for reader in mine)]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.name[0] != ".")
    if not files:
        raise ValueError(
            f"no {' or '.join(suffixes)} in folder {str(path)!r}; allowed: {titles(TAG_FORMATS)}; see also "
            "tags_from_folders"
        )
    return [(file, file.relative_to(path).with_suffix("").as_posix()) for file in files]


def tags_from_folders(sources: Iterable[Source], names: Names | None = None) -> Tags:
    """The name of a picture's folder below the folder that was listed is its tag: ``photos/cat/1.jpg`` -> cat.

    Several tags are joined by ``;`` or ``|`` as in CSV; a picture that lies in no sub-folder is left out.
    """
    found = {str(s.relative): s for s in sources if s.relative.parent.name}
    known, result = spellings(names), Tags(where="the folders' names")
    for key, source in found.items():
        result[key] = spelt(split_tags(source.relative.parent.name), known, names, f"folder of {key!r}")
    result.entries.known |= {str(source): key for key, source in found.items()}
    return result


def lookup_tags(tags: Mapping[str, tuple[str, ...]], source: Source | str | Path) -> tuple[str, ...] | None:
    """Tags of one picture, None where the table does not hold it; the rule stands in ``matching.py``.

    Raises:
        ValueError: the picture fits several entries, or its entry cannot be used.
    """
    return (tags if isinstance(tags, Tags) else Tags(tags)).of(source)
