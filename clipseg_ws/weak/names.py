"""Names in label files: of pictures, without suffix and with ``/`` between folders, and of classes, as asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

from clipseg_ws.pictures.sources import IMAGE_SUFFIXES
from clipseg_ws.structures import Vocabulary, word_key
from clipseg_ws.text.lists import nfc
from clipseg_ws.text.matching import find_class

Names = Sequence[str] | Vocabulary  # the classes that may occur
T = TypeVar("T")
GROUND = ("background", "_background_", "__background__")  # label 0, as people and LabelMe call it
IGNORED = ("__ignore__", "_ignore_")  # LabelMe's word for what belongs to no class
EXPORTED = ("ignore", "ignore_255")  # what this product's exports call the pixels that are 255
NOTHING = ("none", "null", "n/a", "nan")  # what programs write for an empty cell


def normal_name(name: str) -> str:
    """A picture's path with ``/`` between folders, without leading ``./`` or ``/``, in NFC."""
    return PurePosixPath(nfc(name).strip().replace("\\", "/")).as_posix().lstrip("/")


def stem(name: str) -> str:
    """The name without its suffix, where that is a picture's."""
    return split_suffix(name)[0]


def split_suffix(name: str) -> tuple[str, str]:
    """("cam.1", ".jpg"): name and picture's suffix in lower case, which is "" for a name without one."""
    front, dot, end = name.rpartition(".")
    suffix = f".{end.lower()}"
    return (front, suffix) if dot and front and front[-1] != "/" and suffix in IMAGE_SUFFIXES else (name, "")


def split_tags(text: str, more: str = "") -> list[str]:
    """Tags joined by ``;`` or ``|``, or by a sign of ``more``."""
    return [tag.strip() for tag in re.split(f"[;|{re.escape(more)}]", text)]


def is_ground(name: str) -> bool:
    """Whether a name stands for the background."""
    return word_key(name) in GROUND


def is_ignored(name: str) -> bool:
    """Whether a name says that a region belongs to no class."""
    return word_key(name) in IGNORED


def is_number(text: str) -> bool:
    """Whether a word is a number such as a score, which is no class unless it was asked for."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def spellings(names: Names | None) -> dict[str, str] | None:
    """The ``word_key`` of every name and synonym -> the name as asked for; None where any name is taken.

    Words without their spaces, ``_`` and ``-`` ("diningtable") are there too where that is clear; see ``known_word``.
    """
    if names is None:
        return None
    if isinstance(names, Vocabulary):
        pairs = [(w, n) for n, synonyms in zip(names.names, names.synonyms, strict=True) for w in synonyms]
        words = {word_key(w): n for w, n in pairs} | {word_key(name): name for name in names.names}
    else:
        words = {word_key(name): name for name in names}
    close: dict[str, set[str]] = {}
    for word, name in words.items():
        close.setdefault(re.sub(r"[\s_-]", "", word), set()).add(name)
    return {word: next(iter(owners)) for word, owners in close.items() if len(owners) == 1} | words


def known_word(word: str, known: Mapping[str, T]) -> T | None:
    """What a table of ``spellings`` holds for a word, None where it is no class; see ``text.matching.find_class``."""
    found = find_class(known, word)
    return known.get(re.sub(r"[\s_-]", "", word_key(word))) if found is None else found


def spelt(tags: Iterable[str], known: dict[str, str] | None, names: Names | None, where: str) -> tuple[str, ...]:
    """Tags as asked for, each once, empty ones and those that stand for the background left out.

    Args:
        known: ``spellings(names)``. where: the file and picture, for the error.

    Raises:
        ValueError: a tag that is not among ``names``; without ``names`` a number, a list with commas, "none".
    """
    found: dict[str, str] = {}
    for tag in (" ".join(nfc(tag).split()) for tag in tags):
        name = known_word(tag, known) if known is not None and tag else None
        if name is not None:
            found[word_key(name)] = name
        elif tag and not is_ground(tag) and not is_ignored(tag):
            _check_word(tag, known is not None, where)
            if known is not None:
                allowed = names.names if isinstance(names, Vocabulary) else names or ()
                raise ValueError(f"{where}: tag {tag!r} is not one of the classes; allowed: {', '.join(allowed)}")
            found.setdefault(tag, tag)
    return tuple(dict.fromkeys(found.values()))


def _check_word(tag: str, asked: bool, where: str) -> None:
    """Raise ValueError for what can be no class, with what to do about it."""
    if "," in tag:
        raise ValueError(f"{where}: tag {tag!r} holds a comma; several tags are joined by ';', for example 'cat;dog'")
    if asked:
        return
    if is_number(tag):
        raise ValueError(
            f"{where}: tag {tag!r} is a number, not a class; leave scores out of the tags, or ask for a class of that "
            "name (-c)"
        )
    if tag.casefold() in NOTHING:
        raise ValueError(f"{where}: tag {tag!r} is no class; leave the cell empty where a picture holds none")
