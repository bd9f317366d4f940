"""Marks as a file names them, with the names that were asked for."""

from __future__ import annotations

from dataclasses import replace

from clipseg_ws.structures import WeakLabels, word_key
from clipseg_ws.text.lists import nfc
from clipseg_ws.weak.names import EXPORTED, Names, is_ground, is_ignored, known_word, spelt
from clipseg_ws.weak.readers.forms import Drawn


def with_names(drawn: Drawn, names: Names | None, known: dict[str, str] | None, where: str) -> Drawn:
    """Names checked and spelt as in ``names``; what belongs to no class is left out.

    Args:
        known: ``spellings(names)``. where: the file and picture, for errors.

    Raises:
        ValueError: a name that is not among ``names``, none at all, a box of the background.
    """

    def one(name: str, ground: bool = True) -> str:
        if is_ground(name):
            if not ground:
                raise ValueError(f"{where}: {name!r} is not one of the classes; a box of the background says nothing")
            return "background"
        plain = " ".join(nfc(name).split())  # any label that somebody gave to a shape, even a number
        found = (plain,) if known is None and plain else spelt([name], known, names, where)
        if not found:
            raise ValueError(f"{where}: a mark without a name")
        return found[0]

    def left(name: str) -> bool:  # "ignore" is what exports call ignored pixels, unless a class was asked for by that
        asked = known is not None and known_word(name, known) is not None
        return is_ignored(name) or (word_key(name) in EXPORTED and not asked)

    marks = drawn.marks
    boxes = tuple((one(name, False), x0, y0, x1, y1) for name, x0, y0, x1, y1 in marks.boxes if not left(name))
    points = tuple((one(name), x, y) for name, x, y in marks.points if not left(name))
    lines = tuple((one(name), points) for name, points in drawn.lines if not left(name))
    nothing = not (boxes or points or lines) and bool(marks.boxes or marks.points or drawn.lines)
    tags = () if marks.tags is None and nothing else marks.tags  # all that was drawn belongs to no class
    tags = None if tags is None else spelt(tags, known, names, where)
    return replace(drawn, marks=WeakLabels(tags, boxes, points), lines=lines)
