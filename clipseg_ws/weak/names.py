"""Names in label files: of pictures, without suffix and with ``/`` between folders, and of classes, as asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from clipseg_ws.pictures.sources import IMAGE_SUFFIXES
from clipseg_ws.structures import Vocabulary, word_key
from clipseg_ws.text.matching import find_class

Names = Sequence[str] | Vocabulary  # the classes that may occur


def normal_name(name: str) -> str:
    """A picture's path with ``/`` between folders, without leading ``./`` or ``/``."""
    return PurePosixPath(name.strip().replace("\\", "/")).as_posix().lstrip("/")


def stem(name: str) -> str:
    """The name without its suffix, where that is a picture's."""
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else name


def split_tags(text: str) -> list[str]:
    """Tags joined by ``;`` or ``|``."""
    return [tag.strip() for tag in re.split(r"[;|]", text)]


def spellings(names: Names | None) -> dict[str, str] | None:
    """``word_key`` of every name and synonym -> the name as asked for; None where any name is taken."""
    if names is None:
        return None
    if not isinstance(names, Vocabulary):
        return {word_key(name): name for name in names}
    return {word: names.names[i] for word, i in names.index().items()}


def spelt(tags: Iterable[str], known: dict[str, str] | None, names: Names | None, where: str) -> tuple[str, ...]:
    """Tags as asked for, each once, empty ones left out.

    Args:
        known: ``spellings(names)``. where: the file and picture, for the error.

    Raises:
        ValueError: a tag that is not among ``names``.
    """
    found: dict[str, str] = {}
    for tag in (tag.strip() for tag in tags):
        name = tag if known is None or not tag else find_class(known, tag)
        if name is None:
            allowed = names.names if isinstance(names, Vocabulary) else names or ()
            raise ValueError(f"{where}: tag {tag!r} is not one of the classes; allowed: {', '.join(allowed)}")
        if name:
            found.setdefault(word_key(name), name)
    return tuple(found.values())
