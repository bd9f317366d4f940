"""Which picture an entry of a label file belongs to: one rule for tags, marks, masks and truth.

An entry belongs to one picture at most, and a picture takes one entry of a table at most. The name decides:

* A name with folders fits only a picture whose path ends in it; an absolute path of another machine must agree in the
  last folder at least, a URL in the file name. A name without folders fits by the file name alone.
* The suffix counts (letter case aside) where pictures differ in it only; a name without one, or with another
  picture suffix, fits where nothing else does. Then letter case of the name is forgiven, then the hash that an export
  puts before ("1a2b3c4d-a.png") or behind ("a_jpg.rf.1a2b….jpg") a name. Text is compared in NFC.
* Names are relative to the listed folder where the table knows folders at all, and to the label file's own folder.
* Several pictures that fit an entry equally well, or several entries that fit a picture equally well, are an error.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from clipseg_ws.door.errors import InputError
from clipseg_ws.pictures.sources import Source
from clipseg_ws.text.lists import nfc
from clipseg_ws.weak.names import split_suffix
from clipseg_ws.weak.written import Name, Pictures, Place, Written, forms_of, loose, taken_apart

_MISS = 99


class MatchError(InputError):
    """Entries and pictures that cannot be told apart, or that have nothing to do with one another."""


class Rank(NamedTuple):
    """How well a picture fits an entry; smaller is better."""

    choice: int
    name: int
    place: int
    common: int


@dataclass(frozen=True)
class Matched:
    """Which entry belongs to which picture: for every picture the key of its entry, or None; and keys without one."""

    entry: tuple[str | None, ...]
    unused: tuple[str, ...] = ()


class Entries:
    """The names of one table, and which picture each belongs to.

    Args:
        names: key -> how the file names the picture. where: the file, for errors.
    """

    def __init__(self, names: Mapping[str, Name], where: str = "the label file") -> None:
        self.names, self.where = dict(names), where
        self.known: dict[str, str | None] = {}  # location of a picture that was matched -> key

    @cached_property
    def knows_folders(self) -> bool:
        """Whether any name has folders: then a name without is one of the listed folder itself."""
        return any(taken_apart(name.choices[0]).folders for name in self.names.values())

    @cached_property
    def above(self) -> tuple[str, ...]:
        """Folders above all label files whose own place names the picture, as "annotations"."""
        implied = [taken_apart(name.choices[0]).folders for name in self.names.values() if name.implied]
        common: tuple[str, ...] = implied[0] if implied else ()
        for folders in implied:
            same = [a == b for a, b in zip(common, folders, strict=False)]
            common = common[: [*same, False].index(False)]
        return common

    @cached_property
    def _index(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = defaultdict(list)
        for key, name in self.names.items():
            lasts = {form for choice in name.choices for form in forms_of(taken_apart(choice).last)}
            for word in {loose(form) for last in lasts for form in (last, split_suffix(last)[0])}:
                index[word].append(key)
        return index

    def fit(self, pictures: Pictures) -> Matched:
        """Match all entries with all pictures of a run; ``find`` then answers from it.

        Raises:
            MatchError: an entry that fits several pictures, a picture that several entries fit, no entry that fits a
                picture, a first row that must have been a heading.
        """
        matched = self._match(self.names, pictures)
        _check(self, matched, pictures)
        self.known |= dict(zip(pictures.shown, matched.entry, strict=True))
        return matched

    def find(self, source: Source | str | Path) -> str | None:
        """The key of one picture's entry, None where there is none. Raises MatchError where several fit."""
        if str(source) in self.known:
            return self.known[str(source)]
        pictures = Pictures.of([source])
        last = pictures.places[0].last
        keys = {key for word in {loose(last), loose(split_suffix(last)[0])} for key in self._index.get(word, ())}
        return self._match({key: self.names[key] for key in sorted(keys)}, pictures).entry[0]

    def _match(self, names: Mapping[str, Name], pictures: Pictures) -> Matched:
        claims: dict[int, list[tuple[Rank, str]]] = defaultdict(list)
        for key, name in names.items():
            best = _best(name, self, pictures)
            if len(best) > 1:
                fits = some([pictures.shown[number] for number in best])
                raise MatchError(
                    f"{self.where}: entry {str(name)!r} fits several pictures: {fits}; write the folder (and the "
                    "suffix) too, so that it fits one"
                )
            for number, rank in best.items():
                claims[number].append((rank, key))
        entry: list[str | None] = [None] * len(pictures.places)
        for number, mine in claims.items():
            first = min(rank for rank, _ in mine)
            winners = [key for rank, key in mine if rank == first]
            if len(winners) > 1:
                fits = some([str(names[key]) for key in winners])
                raise MatchError(
                    f"{self.where}: picture {pictures.shown[number]!r} fits several entries: {fits}; add folders, or "
                    "leave one"
                )
            entry[number] = winners[0]
        used = set(entry)
        return Matched(tuple(entry), tuple(key for key in names if key not in used))


def _best(name: Name, table: Entries, pictures: Pictures) -> dict[int, Rank]:
    """The pictures that fit a name best, with their rank; empty where none fits."""
    tries = list(enumerate(name.choices))
    if name.implied and table.above:
        first = taken_apart(name.choices[0])
        if first.folders not in pictures.ends:  # as annotations/a.xml for images/a.jpg
            tries.insert(1, (0, "/".join([*first.folders[len(table.above) :], first.last])))
    found: dict[int, Rank] = {}
    for choice, text in tries:
        ranks = _ranks(choice, text, name.folder, table, pictures)
        if ranks and not found:
            first_rank = min(ranks.values())
            found = {number: rank for number, rank in ranks.items() if rank == first_rank}
            if not name.rivals:
                break
        elif ranks and not found.keys() & ranks.keys() and min(ranks.values()).name <= 1:
            found |= ranks  # two names of two pictures: which is meant cannot be told
    return found


def _ranks(choice: int, text: str, folder: str, table: Entries, pictures: Pictures) -> dict[int, Rank]:
    """All pictures that fit one written name; ``folder``: of the label file."""
    path = taken_apart(text)
    if not path.last:
        return {}
    beside = taken_apart(os.path.join(folder, nfc(text).strip().replace("\\", "/"))).folders if folder else ()
    found: dict[int, Rank] = {}
    forms = forms_of(path.last)
    for level, last in enumerate(forms):
        keys = {loose(last), loose(split_suffix(last)[0])}
        for number in sorted({n for key in keys for n in pictures.index.get(key, ())}):
            place = pictures.places[number]
            fit = _fit_name(last, place.last, exact=level == 0)
            where, common = _fit_place(path, place, table, beside)
            if fit != _MISS and where != _MISS:
                rank = Rank(choice, fit + 10 * level, where, -common)
                found[number] = min(found.get(number, rank), rank)
    return found


def _fit_name(written: str, there: str, *, exact: bool) -> int:
    """0 the same name; 1 a name without suffix; 2 another picture suffix; 3 to 5 the same but for letter case, 6 to 8
    as a web server stores it; ``_MISS``."""
    front, suffix = split_suffix(written)
    stem, own = split_suffix(there)
    views = [(front, stem, written, 0), (front.casefold(), stem.casefold(), written.casefold(), 3)]
    if not exact:
        views.append((loose(front), loose(stem), loose(written), 6))
    for mine, theirs, whole, level in views:
        if mine == theirs:
            return level + (0 if suffix == own else 1 if not suffix else 2)
        if whole == theirs or mine == (there, there.casefold(), loose(there))[level // 3]:
            return level + 1  # a.png written for a.png.png; a.jpg.png, the mask of a.jpg
    return _MISS


def _fit_place(path: Written, place: Place, table: Entries, beside: tuple[str, ...]) -> tuple[int, int]:
    """(0 beside the label file, 1 the very place below the listed folder, 2 the end of the path, 3 that but for letter
    case; ``_MISS``), and how many folders agree."""
    count = len(path.folders)
    ends = not count or place.folders[-count:] == path.folders
    below = place.below is not None and count > 0 and place.below[-count:] == path.folders
    if path.kind:  # of another machine, or of a server
        common = _common(path.folders, place.folders)
        return (2, common) if common or path.kind == "url" or not count else (_MISS, 0)
    if beside and place.folders == beside:
        return 0, count
    if place.below is not None and place.below == path.folders and (count or table.knows_folders):
        return 1, count
    if ends or below:
        return 2, count
    folded = tuple(part.casefold() for part in place.folders[-count:])
    return (3, count) if folded == tuple(part.casefold() for part in path.folders) else (_MISS, 0)


def _common(one: Sequence[str], two: Sequence[str]) -> int:
    """How many folders at the end agree."""
    count = 0
    for a, b in zip(reversed(one), reversed(two), strict=False):
        if a != b:
            break
        count += 1
    return count


def _check(entries: Entries, matched: Matched, pictures: Pictures) -> None:
    """Raise MatchError where no entry fits, with three names from each side, or where a row must be a heading."""
    where, names = entries.where, entries.names
    if pictures.shown and not any(key is not None for key in matched.entry):
        raise MatchError(
            f"{where}: none of its {len(names)} entries fits one of the {len(pictures.shown)} pictures; it names "
            f"{some([str(name) for name in names.values()])}; the pictures are {some(pictures.shown)}"
        )
    for key in matched.unused:
        if row := names[key].heading:
            raise MatchError(
                f"{where}: the first row names no picture: {row}; if it is a heading, call the columns image and tags"
            )


def some(names: Sequence[str]) -> str:
    """The first three, and how many where there are more."""
    return ", ".join(map(repr, names[:3])) + (f", … ({len(names)})" if len(names) > 3 else "") or "none"
