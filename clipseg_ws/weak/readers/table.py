"""Tables of tags: CSV, or TSV with tabs, with a header or without."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from clipseg_ws.weak.names import split_tags, stem
from clipseg_ws.weak.readers.forms import Reader, Tagged

IMAGE_COLUMNS = ("image", "file", "filename", "file_name")
TAG_COLUMNS = ("tags", "tag", "labels", "label", "classes", "class")
Row = tuple[int, list[str]]  # line number, cells


def load(path: Path) -> list[Row]:
    """The rows that are not empty. Raises ValueError for what is no CSV in UTF-8."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"not a UTF-8 CSV file: {error}") from error


def recognises(rows: Sequence[Row]) -> bool:
    """Any table."""
    return True


def read_tags(rows: Sequence[Row], place: str) -> Tagged:
    """By the header's columns; without one the picture stands first and tags in all other cells."""
    if not rows:
        raise ValueError("the file is empty; it needs rows such as 'photo_1.jpg,cat;dog'")
    header = [cell.strip().casefold() for cell in rows[0][1]]
    images, tags = ([i for i, c in enumerate(header) if c in known] for known in (IMAGE_COLUMNS, TAG_COLUMNS))
    if stem(header[0]) != header[0] or not (images or tags):  # a picture's name is no heading
        if all(len(row) == 1 for _, row in rows):
            raise ValueError(f"there is one column only, first {rows[0][1][0]!r}; write 'photo_1.jpg,cat;dog'")
        return [(row[0], [tag for cell in row[1:] for tag in split_tags(cell)]) for _, row in rows]
    if len(images) != 1 or len(tags) != 1:
        raise ValueError(
            f"the columns are {', '.join(header)}; the file needs one of {', '.join(IMAGE_COLUMNS)} "
            f"and one of {', '.join(TAG_COLUMNS)}, e.g. 'image,tags'"
        )
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(f"line {line}: {len(row)} cells, the header has {len(header)}: {row}")
    return [(row[images[0]], split_tags(row[tags[0]])) for _, row in rows[1:]]


TAGS = Reader((".csv", ".tsv"), load, recognises, read_tags, folders=False)
