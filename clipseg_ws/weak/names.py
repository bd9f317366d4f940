"""Names in label files: of pictures, without suffix and with ``/`` between folders, and of classes, as asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from clipseg_ws.pictures.sources import IMAGE_SUFFIXES
from clipseg_ws.structures import Vocabulary

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
    """Every name and synonym, casefolded -> the name as asked for; None where any name is taken."""
    if names is None:
        return None
    if not isinstance(names, Vocabulary):
        return {name.casefold(): name for name in names}
    words = {w.casefold(): n for n, synonyms in zip(names.names, names.synonyms, strict=True) for w in synonyms}
    return words | {name.casefold(): name for name in names.names}


def spelt(tags: Iterable[str], known: dict[str, str] | None, names: Names | None, where: str) -> tuple[str, ...]:
    """Tags as asked for, each once, empty ones left out.

    Args:
        known: ``spellings(names)``. where: the file and picture, for the error.

    Raises:
        ValueError: a tag that is not among ``names``.
    """
    found: dict[str, None] = {}
    for tag in (tag.strip() for tag in tags):
        if tag and known is not None and tag.casefold() not in known:
            allowed = names.names if isinstance(names, Vocabulary) else names or ()
            raise ValueError(f"{where}: tag {tag!r} is not one of the classes; allowed: {', '.join(allowed)}")
        if tag:
            found[tag if known is None else known[tag.casefold()]] = None
    return tuple(found)
