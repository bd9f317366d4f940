"""What tags and marks on a command line say of many pictures: files, folder names, or the same names for all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clipseg_ws.pictures.sources import Source
from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.marks import Marks, lookup_marks, merge_marks, read_marks
from clipseg_ws.weak.matching import some
from clipseg_ws.weak.names import Names, spellings, spelt
from clipseg_ws.weak.tags import Tags, lookup_tags, read_tags, tags_from_folders
from clipseg_ws.weak.written import Pictures


@dataclass(frozen=True)
class LabelFiles:
    """Weak labels by picture; of ``read_label_files``. Small functions of it travel to worker processes.

    Attributes:
        table: picture name -> tags, or None. everywhere: tags of every picture, or None. marks: files of marks.
        report: lines on what fits no picture and on pictures without an entry; empty where everything fits.
    """

    table: Tags | None
    everywhere: tuple[str, ...] | None
    marks: tuple[Marks, ...] = ()
    report: tuple[str, ...] = field(default=())

    def names(self) -> list[str]:
        """Every name that occurs, sorted."""
        found = {name for entry in (self.table or {}).values() for name in entry} | set(self.everywhere or ())
        return sorted(found.union(*(file.classes() for file in self.marks)))

    def tags(self, source: Source) -> tuple[str, ...]:
        """The tags of a picture. Raises ValueError where the file does not hold it."""
        listed = self.everywhere if self.table is None else lookup_tags(self.table, source)
        if listed is None:
            raise ValueError(f"{source} has no entry in the tags")
        return listed

    def labels(self, source: Source) -> WeakLabels:
        """Tags and marks of a picture together. Raises ValueError where no file holds it."""
        listed = self.everywhere if self.table is None else lookup_tags(self.table, source)
        parts = [] if listed is None else [WeakLabels(tags=listed)]
        parts += [entry for file in self.marks if (entry := lookup_marks(file, source)) is not None]
        if not parts:
            raise ValueError(f"{source} has no entry in the weak labels")
        result = parts[0]
        for part in parts[1:]:
            result = merge_marks(result, part)
        return result


def read_label_files(
    tags: str | None, marks: Sequence[str | Path], sources: Sequence[Source], names: Names | None = None
) -> LabelFiles:
    """Read what the options --tags and --marks name.

    Args:
        tags: a file or a folder of ``tags.read_tags``, the word "folders", or names for all pictures: "cat; dog".
        marks: files or folders of ``marks.read_marks``. sources: the pictures, for "folders".
        names: the classes that may occur; their spelling wins.

    Every file is matched with all pictures at once, before the first is read.

    Raises:
        ValueError: neither tags nor marks, a name that is none of ``names``, scribble PNGs without ``names``, an entry
            that fits several pictures, a file of which no entry fits one. FileNotFoundError: no such file.
    """
    if tags is None and not marks:
        raise ValueError("no weak labels were given; pass --tags tags.csv, --tags 'cat; dog' or --marks boxes.json")
    everywhere: tuple[str, ...] | None = None
    table = None
    if tags == "folders":
        table = tags_from_folders(sources, names)
    elif tags is not None and os.path.exists(tags):
        table = read_tags(tags, names)
    elif tags is not None:
        if Path(tags).suffix:
            raise FileNotFoundError(f"no tags file {tags!r}; a CSV, JSON or XML folder is needed, or names 'cat; dog'")
        everywhere = spelt(tags.split(";"), spellings(names), names, f"--tags {tags!r}")
    files = tuple(read_marks(path, names) for path in marks)
    for file in files:
        if file.unnamed:
            raise ValueError(
                f"{file.where}: scribble PNGs hold numbers, not names; pass the classes (-c) in their order"
            )
    tables: list[Tags | Marks] = [*files] if table is None or tags == "folders" else [table, *files]
    return LabelFiles(table, everywhere, files, tuple(_fitted(tables, sources)))


def _fitted(tables: Sequence[Tags | Marks], sources: Sequence[Source]) -> list[str]:
    """Match every table with the pictures; what is left on both sides. Raises MatchError (a ValueError)."""
    if not tables:
        return []
    pictures = Pictures.of(sources)
    lines, without = [], set(range(len(sources)))
    for table in tables:
        matched = table.entries.fit(pictures)
        without -= {number for number, key in enumerate(matched.entry) if key is not None}
        if matched.unused:
            lines.append(f"{table.where}: {len(matched.unused)} entries fit no picture: {some(matched.unused)}")
    if without:
        places = [str(sources[number]) for number in sorted(without)]
        lines.append(f"{len(without)} of {len(sources)} pictures have no entry: {some(places)}")
    return lines
