"""Names of pictures as label files write them, taken apart; and the pictures of a run, ready to be looked up."""

from __future__ import annotations

import re
import urllib.parse
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clipseg_ws.pictures.naming import Source, identity, is_url
from clipseg_ws.text.lists import nfc
from clipseg_ws.weak.names import split_suffix

_HASHED = re.compile(r"(?!(?:19|20)\d{6}[-_])[0-9a-f]{6,40}[-_](?P<name>.+)", re.IGNORECASE)
_ROBOFLOW = re.compile(r"(?P<name>.+)_(?P<suffix>jpe?g|png|bmp|webp|tiff?)\.rf\.\w+(?:\.\w+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Name:
    """How a label file names a picture.

    Attributes:
        choices: names, the best first: the first that fits a picture counts.
        folder: of the label file, to which names are relative; "" where there is none.
        implied: the folders of the first choice come from the label file's own place, not from its content.
        rivals: later choices must not name another picture that is there too.
        heading: the entry is the first row of a table and may be a heading: the row.
        row: where in the file it stands, for errors.
    """

    choices: tuple[str, ...]
    folder: str = ""
    implied: bool = False
    rivals: bool = False
    heading: str = ""
    row: str = ""

    def __str__(self) -> str:
        return self.choices[0]


class Written(NamedTuple):
    """A written name taken apart: kind ("", "absolute", "url"), folders, file name."""

    kind: str
    folders: tuple[str, ...]
    last: str


def taken_apart(name: str) -> Written:
    """A name as written -> its parts in NFC, without "." and leading ".."."""
    text, kind = nfc(name).strip(), ""
    if is_url(text):
        parts, kind = urllib.parse.urlsplit(text), "url"
        text = f"{parts.netloc}/{urllib.parse.unquote(parts.path)}"
    text = text.replace("\\", "/")
    if re.match(r"[A-Za-z]:/", text) or text.startswith("/"):
        kind, text = kind or "absolute", re.sub(r"^[A-Za-z]:", "", text)
    parts_ = [part for part in text.split("/") if part not in ("", ".")]
    while ".." in parts_:
        at = parts_.index("..")
        del parts_[max(0, at - 1) : at + 1]
    return Written(kind, tuple(parts_[:-1]), parts_[-1] if parts_ else "")


@dataclass(frozen=True)
class Place:
    """A picture: folders and file name of its location, and folders below the folder that was listed."""

    folders: tuple[str, ...]
    last: str
    below: tuple[str, ...] | None


def place_of(source: Source | str | Path) -> Place:
    """The picture of a source, or of a path or URL alone: then nothing is known of the listed folder."""
    whole = taken_apart(identity(str(source)))
    below = None
    if isinstance(source, Source):
        below = tuple(nfc(part) for part in source.relative.parts[:-1])
    return Place(whole.folders, whole.last, below)


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run, ready for look-ups by file name; ``shown`` are their locations."""

    places: tuple[Place, ...]
    shown: tuple[str, ...]
    index: Mapping[str, tuple[int, ...]]
    ends: frozenset[tuple[str, ...]]

    @staticmethod
    def of(sources: Iterable[Source | str | Path]) -> Pictures:
        """Taken apart once."""
        listed = list(sources)
        places = tuple(place_of(source) for source in listed)
        index: dict[str, list[int]] = defaultdict(list)
        for number, place in enumerate(places):
            for key in {loose(place.last), loose(split_suffix(place.last)[0])}:
                index[key].append(number)
        ends = {p.folders[i:] for p in places for i in range(len(p.folders))}
        shown = tuple(str(source) for source in listed)
        return Pictures(places, shown, {k: tuple(v) for k, v in index.items()}, frozenset(ends))


def loose(name: str) -> str:
    """What names that may be the same have in common: also as web servers store them, without spaces and signs."""
    return re.sub(r"[^\w.-]", "", name.strip().replace(" ", "_")).casefold()


def forms_of(last: str) -> list[str]:
    """A file name, and what it was before an export added a hash."""
    forms = [last]
    if hashed := _HASHED.fullmatch(last):
        forms.append(hashed["name"])
    if flowed := _ROBOFLOW.fullmatch(last):
        forms.append(f"{flowed['name']}.{flowed['suffix']}")
    return forms
