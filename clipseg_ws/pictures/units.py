"""Pictures beyond a folder of files, as units of work: streamed, never listed as a whole. No torch.

A unit becomes one shard of output. A folder, glob, list or object store gives units of so many pictures in a fixed
order; a WebDataset tar is a unit; a Parquet file with picture bytes or with paths and URLs gives units of row groups.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePosixPath

from clipseg_ws.pictures.naming import Source, is_url, source_name
from clipseg_ws.pictures.objects import is_object_store, object_state, walk_objects
from clipseg_ws.pictures.packed import column_of, group_rows, read_rows, read_tar
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.pictures.suffixes import IMAGE_SUFFIXES
from clipseg_ws.pictures.written import is_output, own_files

SIZE = 1000  # pictures of a unit


@dataclass(frozen=True)
class Unit:
    """Work for one shard of output. Small, to travel between machines.

    Attributes:
        number: its place among all units, from 0; the shard's name is made of it.
        place: the tar or Parquet file, "" for single files. groups: first and last + 1 row group of a Parquet file.
        files: (location, name) of single files. prefix: in front of the names of what a tar or Parquet file holds.
    """

    number: int
    place: str = ""
    groups: tuple[int, int] = (0, 0)
    files: tuple[tuple[str, str], ...] = ()
    prefix: str = ""

    def identity(self) -> str:
        """16 digits that change with what the unit holds: names of files; size and time of a tar or Parquet file."""
        state = _state(self.place) if self.place else None
        content = [self.place, self.groups, self.files, self.prefix, state]
        return hashlib.sha256(json.dumps(content).encode("utf-8", "backslashreplace")).hexdigest()[:16]

    def pictures(self) -> Iterator[tuple[Source, bytes | None]]:
        """The pictures one by one, with their bytes where they lie in a tar or Parquet file.

        Raises OSError, ValueError where the file cannot be read (any more).
        """
        if not self.place:
            yield from ((Source(location, PurePosixPath(name)), None) for location, name in self.files)
            return
        rows = read_tar(self.place) if _is_tar(self.place) else read_rows(self.place, self.groups)
        seen = Counter[PurePosixPath]()
        for inside, location, data in rows:
            parts = [part for part in PurePosixPath(inside).parts if part not in ("/", "..")]
            name = PurePosixPath(self.prefix, *parts)
            seen[name] += 1
            if seen[name] > 1:  # a tar may hold two members of one name
                name = name.with_name(f"{name.stem}-{seen[name]}{name.suffix}")
            yield Source(location or f"{self.place}/{inside}", name), data


def list_units(specs: str | Sequence[str], size: int = SIZE, *, output: str | Path | None = None) -> Iterator[Unit]:
    """Units of all pictures that are given, one after the other; memory does not grow with their number.

    Names keep the picture's suffix, so that no two pictures of one place meet; with several places each name begins
    with the number of its place: "2/trip/a.jpg".

    Args:
        specs: folders, files, globs, ``list.txt``, ``list.parquet``, tars, Parquet files with bytes, ``s3://...``.
        size: pictures of a unit at most (a tar or a row group is never divided). output: a folder to leave out.

    Raises:
        FileNotFoundError: nothing there. ValueError: a place without pictures, ``size`` below 1.
    """
    if size < 1:
        raise ValueError(f"{size} pictures a shard; at least 1 is needed, for example 1000")
    places, number = [specs] if isinstance(specs, str) else list(specs), count()
    for index, place in enumerate(places):
        prefix = f"{index + 1}/" if len(places) > 1 else ""
        empty = True
        for unit in _units_of(place, size, output, prefix, number):
            empty = False
            yield unit
        if empty:
            raise ValueError(f"no pictures at {place!r}: looked for {' '.join(IMAGE_SUFFIXES)}, .tar and .parquet")


def _units_of(
    place: str, size: int, output: str | Path | None, prefix: str, number: Iterator[int]
) -> Iterator[Unit]:
    waiting: list[tuple[str, str]] = []
    for location, name in _walk(place, output):
        if _is_tar(location) or (location.lower().endswith(".parquet") and column_of(location)[1]):
            own = PurePosixPath(name).with_suffix("").as_posix()
            inside = prefix if location == place else f"{prefix}{own}/"
            groups = [(0, 0)] if _is_tar(location) else group_rows(location, size)
            yield from (Unit(next(number), location, pair, prefix=inside) for pair in groups)
            continue
        listed = _listed(location, name) if location.lower().endswith((".parquet", ".txt")) else ((location, name),)
        for one in listed:
            waiting.append((one[0], prefix + one[1]))
            if len(waiting) == size:
                yield Unit(next(number), files=tuple(waiting))
                waiting = []
    if waiting:
        yield Unit(next(number), files=tuple(waiting))


def _walk(place: str, output: str | Path | None) -> Iterator[tuple[str, str]]:
    """(location, name below the place) of pictures, tars and Parquet files, in a fixed order."""
    known = (*IMAGE_SUFFIXES, ".tar", ".parquet")
    if is_object_store(place):
        for uri in walk_objects(place):
            if uri.lower().endswith(known):
                yield uri, uri.removeprefix(place.rstrip("/")).lstrip("/") or uri.rpartition("/")[2]
    elif is_url(place):
        yield place, source_name(place)
    elif os.path.isdir(place):
        for file in _files(place, (os.path.realpath(place),), output):
            if file.lower().endswith(known):
                yield file, Path(os.path.relpath(file, place)).as_posix()
    elif place.lower().endswith((".tar", ".parquet", ".txt")) and os.path.isfile(place):
        yield place, Path(place).name
    else:  # one file, or a glob
        for source in list_sources(place, output=output):
            yield str(source), _suffixed(source)


def _files(folder: str, above: tuple[str, ...], output: str | Path | None) -> Iterator[str]:
    """Files below a folder, sorted, hidden ones and what the product wrote left out; links in a circle end."""
    if is_output(folder, output):
        return
    with os.scandir(folder) as entries:
        listed = sorted((entry.name, entry.is_dir()) for entry in entries if entry.name[0] != ".")
    own = {path.name for path in own_files(folder, [name for name, is_folder in listed if not is_folder])}
    for name, is_folder in listed:
        path = os.path.join(folder, name)
        if is_folder and (real := os.path.realpath(path)) not in above:
            yield from _files(path, (*above, real), output)
        elif name in own:
            yield path


def _listed(location: str, name: str) -> Iterator[tuple[str, str]]:
    """The pictures of a list.txt, or of a Parquet file with paths or URLs; the latter is read in parts."""
    if location.lower().endswith(".txt"):
        yield from ((str(source), _suffixed(source)) for source in list_sources(location))
        return
    for inside, there, _ in chain.from_iterable(read_rows(location, pair) for pair in group_rows(location, SIZE)):
        yield there or "", f"{PurePosixPath(name).with_suffix('').as_posix()}/{inside}"


def _suffixed(source: Source) -> str:
    path = PurePosixPath(str(source).partition("?")[0])
    return str(source.relative) if source.relative.name.endswith(path.suffix) else f"{source.relative}{path.suffix}"


def _is_tar(location: str) -> bool:
    return location.lower().endswith(".tar")


def _state(place: str) -> Iterable[int] | None:
    if is_object_store(place):
        return object_state(place)
    try:
        now = os.stat(place)
    except OSError:
        return None
    return now.st_size, now.st_mtime_ns
