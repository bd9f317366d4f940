"""Tables of tags: CSV with commas, semicolons or tabs, with a heading or without."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipseg_ws.door import read_text
from clipseg_ws.door.tables import csv_rows
from clipseg_ws.weak.names import is_number, split_suffix, split_tags
from clipseg_ws.weak.readers.forms import Found, Reader, Tagged
from clipseg_ws.weak.written import Name

# columns with the picture's name, in the order in which they are believed
IMAGE_COLUMNS = (
    "image", "file", "filename", "file_name", "path", "file_path", "filepath", "image_path", "img_path", "img",
    "image_name", "imagename", "image_id", "imageid", "id",
)  # fmt: skip
TAG_COLUMNS = (
    "tags", "tag", "labels", "label", "classes", "class", "category", "categories", "class_name", "label_name",
    "labelname", "species",
)  # fmt: skip
Row = tuple[int, list[str]]  # line number, cells


@dataclass(frozen=True)
class Table:
    """The rows that are not empty, and the sign between their cells."""

    rows: list[Row]
    sign: str


def load(path: Path) -> Table:
    """Raises ValueError for what is no CSV in UTF-8 or UTF-16."""
    try:
        text = read_text(path)
        said = re.match(r"sep=(.)\r?\n?", text, re.IGNORECASE)  # Excel's own first line
        text = text[said.end() :] if said else text
        sign = said[1] if said else "\t" if path.suffix.lower() == ".tsv" else _sign(text)
        return Table([(line + bool(said), row) for line, row in csv_rows(text, sign)], sign)
    except ValueError as error:
        raise ValueError(f"not a UTF-8 CSV file: {error}") from error


def _sign(text: str) -> str:
    """ "," unless the heading, or the first row, falls into cells by another sign only."""
    first = next((line for line in re.split(r"[\r\n]+", text) if line.strip()), "")
    for sign in (";", "\t"):
        cells = [cell.strip().strip('"').casefold() for cell in first.split(sign)]
        named = {*cells} & {*IMAGE_COLUMNS} and {*cells} & {*TAG_COLUMNS}
        if len(cells) > 1 and (named or split_suffix(cells[0])[1]):
            return sign
    return ","


def recognises(table: Table) -> bool:
    """Any table."""
    return True


def read_tags(table: Table, place: str) -> Tagged:
    """By the heading's columns; without one the picture stands first and tags in all other cells."""
    rows, more = table.rows, "," if table.sign == ";" else ""
    if not rows:
        raise ValueError("the file is empty; it needs rows such as 'photo_1.jpg,cat;dog'")
    heading = [cell.strip().casefold() for cell in rows[0][1]]
    images, tags = (_columns(heading, known) for known in (IMAGE_COLUMNS, TAG_COLUMNS))
    if split_suffix(heading[0])[1] or not (tags or (images and heading[images[0]] != "id")):
        return _without_heading(rows, more)
    if not images or len(tags) != 1:
        raise ValueError(
            f"the columns are {', '.join(heading)}; the file needs one of {', '.join(IMAGE_COLUMNS)} "
            f"and one of {', '.join(TAG_COLUMNS)}, e.g. 'image,tags'"
        )
    for line, row in rows[1:]:
        if len(row) != len(heading):
            raise ValueError(f"line {line}: {len(row)} cells, the header has {len(heading)}: {row}")
    image = images[0]
    return [Found(Name((row[image],), row=f"line {line}"), split_tags(row[tags[0]], more)) for line, row in rows[1:]]


def _columns(heading: Sequence[str], known: Sequence[str]) -> list[int]:
    """Places of the columns with a known name, the most believed name first."""
    return sorted((i for i, cell in enumerate(heading) if cell in known), key=lambda i: known.index(heading[i]))


def _without_heading(rows: Sequence[Row], more: str) -> Tagged:
    if all(len(row) == 1 for _, row in rows):
        raise ValueError(f"there is one column only, first {rows[0][1][0]!r}; write 'photo_1.jpg,cat;dog'")
    first, others = rows[0][1], [row for _, row in rows[1:]]
    if not split_suffix(first[0].strip())[1] and any(split_suffix(row[0].strip())[1] for row in others):
        raise ValueError(
            f"line {rows[0][0]}: {','.join(first)!r} names no picture; if it is a heading, call the columns 'image' "
            f"and 'tags' (known: {', '.join(IMAGE_COLUMNS)}; {', '.join(TAG_COLUMNS)})"
        )
    found: Tagged = []
    words = Counter(tag for _, row in rows for cell in row[1:] for tag in split_tags(cell, more))
    for line, row in rows:
        tags = [tag for cell in row[1:] for tag in split_tags(cell, more)]
        # a heading of unknown words, where no name has a suffix: what stands in it stands nowhere else
        doubtful = row is first and bool(others) and all(words[tag] == 1 and not is_number(tag) for tag in tags)
        heading = ",".join(row) if doubtful and not split_suffix(row[0].strip())[1] else ""
        found.append(Found(Name((row[0],), row=f"line {line}", heading=heading), tags))
    return found


TAGS = Reader((".csv", ".tsv"), load, recognises, read_tags, folders=False)
