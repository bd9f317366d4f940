"""One picture to read, its place, and the names of its results that never meet another's. No torch."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.parse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from clipseg_ws.pictures.written import FOLDER_ENDINGS, OUTPUT_ENDINGS


@dataclass(frozen=True)
class Source:
    """One picture to read.

    Attributes:
        location: path or http(s) URL; also ``str(source)``.
        relative: where its results go below the output folder: sub-folders kept, no suffix. **Append** to its name
            (``relative.name + ".png"``), never use ``with_suffix``: names may hold dots.
    """

    location: str
    relative: PurePosixPath

    def __str__(self) -> str:
        return self.location


def is_url(location: str) -> bool:
    """Whether it has the form ``scheme://...``, whatever the scheme."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", location) is not None


def check_url(url: str) -> str:
    """The URL itself if it can be downloaded; ValueError for any scheme but http and https."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r}: only http:// and https:// URLs are read, e.g. https://example.org/photo.jpg")
    return url


def source_name(location: str) -> str:
    """File name without folders and suffix, of a path or URL; "image" where a URL has none."""
    if not is_url(location):
        return Path(location).stem
    name = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(location).path)).name
    return PurePosixPath(re.sub(r"[^\w .()+-]", "_", name)).stem[:100].strip(". ") or "image"


def file_name(location: str) -> str:
    """File name with its suffix, of a path or URL; what no file system takes in a URL's becomes ``_``."""
    if not is_url(location):
        return Path(location).name
    name = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(location).path)).name
    return re.sub(r"[^\w .()+-]", "_", name)[-100:].strip(". ") or "image"


def picture_names(sources: Sequence[Source]) -> list[str]:
    """What data sets call pictures: the path below the listed folder, with the file's own name; all distinct.

    Where two folders were listed that hold the same path, all are named from the folder that they have in common; URLs
    that still share a name are numbered by ``Source.relative``.
    """
    names = [str(source.relative.with_name(file_name(source.location))) for source in sources]
    if len({name.casefold() for name in names}) < len(names):
        files = [identity(source.location) for source in sources if not is_url(source.location)]
        root = Path(os.path.commonpath([os.path.dirname(file) for file in files])) if files else Path()
        names = [
            name if is_url(s.location) else Path(identity(s.location)).relative_to(root).as_posix()
            for name, s in zip(names, sources, strict=True)
        ]
    counts = Counter(name.casefold() for name in names)
    return [
        name if counts[name.casefold()] == 1 else str(s.relative) + PurePosixPath(name).suffix
        for name, s in zip(names, sources, strict=True)
    ]


def picture_stems(names: Sequence[str]) -> list[str]:
    """Names of files that belong to pictures: without suffix, with it where two pictures would share one."""
    plain = [str(PurePosixPath(name).with_suffix("")) for name in names]
    counts = Counter(stem.casefold() for stem in (*plain, *names))
    return [s if counts[s.casefold()] == 1 else name for s, name in zip(plain, names, strict=True)]


def identity(location: str) -> str:
    """Equal for every way to write one file: the URL, or the absolute path."""
    return location if is_url(location) else os.path.abspath(location)


def distinct(sources: list[Source]) -> list[Source]:
    """The naming rule of ``list_sources``: suffix kept, then a hash added, only where names clash."""

    def suffixed(source: Source) -> str:
        path = urllib.parse.urlsplit(source.location).path if is_url(source.location) else source.location
        return source.relative.name + PurePosixPath(path).suffix

    def hashed(source: Source) -> str:
        return f"{source.relative.name}-{hashlib.sha256(os.fsencode(identity(source.location))).hexdigest()[:12]}"

    for rename in (suffixed, hashed):
        slots = [_slot(source.relative) for source in sources]
        around = [_folder_slots(source.relative) for source in sources]
        counts, folders = Counter(slots), frozenset[str]().union(*around)
        clash = [
            counts[slot] > 1 or slot in folders or not counts.keys().isdisjoint(outer)
            for slot, outer in zip(slots, around, strict=True)
        ]
        sources = [
            replace(source, relative=source.relative.with_name(rename(source))) if clashing else source
            for source, clashing in zip(sources, clash, strict=True)
        ]
    return sources


def batch_names(locations: Sequence[str | None]) -> list[str]:
    """A file name without suffix for every picture of one batch, no two the same; None stands for an array.

    As ``distinct`` names files; arrays are "image", "image-2", ..., and so are pictures that were given twice.
    """
    sources = [Source(place, PurePosixPath(source_name(place))) for place in dict.fromkeys(locations) if place]
    names = {source.location: source.relative.name for source in distinct(sources)}
    taken: set[str] = set()
    result = []
    for place in locations:
        first = name = names.get(place or "", "image")
        number = 2
        while name.casefold() in taken or (number > 2 and name in names.values()):
            name, number = f"{first}-{number}", number + 1
        taken.add(name.casefold())
        result.append(name)
    return result


def _slot(relative: PurePosixPath) -> str:
    """Equal for names whose output files could meet, also on a file system that ignores case."""
    return re.sub(rf"({'|'.join(OUTPUT_ENDINGS)})+$", "", str(relative).casefold())


def _folder_slots(relative: PurePosixPath) -> frozenset[str]:
    """Slots of the pictures whose folder of results a picture lies in, should they exist."""
    return frozenset(_slot(outer) for outer in relative.parents if outer.name.casefold().endswith(FOLDER_ENDINGS))
