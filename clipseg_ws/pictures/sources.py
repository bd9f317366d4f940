"""Where pictures come from: files, folders, globs, lists and URLs, each with the name of its results. No torch."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from clipseg_ws.door.plain import is_file, read_text, user_path
from clipseg_ws.pictures.naming import Source, check_url, distinct, identity, is_url, source_name
from clipseg_ws.pictures.objects import is_object_store, list_objects, read_paths
from clipseg_ws.pictures.suffixes import IMAGE_SUFFIXES, readable, unreadable
from clipseg_ws.pictures.written import MARKER, in_output, is_output, own_files, was_written
from clipseg_ws.values import near_miss

__all__ = ["IMAGE_SUFFIXES", "Source", "check_url", "is_url", "list_sources", "source_name"]
_ALLOWED = (
    "an image file, a folder, a glob such as 'photos/**/*.jpg', a list.txt with one path a line, a list.parquet, "
    "an http(s) URL, s3://bucket/folder"
)


def list_sources(
    specs: str | Path | Source | Iterable[str | Path | Source], *, output: str | Path | None = None
) -> list[Source]:
    """All pictures that the given files, folders, globs, ``list.txt`` files and URLs stand for, each once, in order.

    A ``.parquet`` file is a list too, and ``s3://bucket/folder`` (``objects.py``) a folder.

    Folders are read recursively, sorted, by suffix (IMAGE_SUFFIXES), without hidden entries; linked folders are
    followed once. What the product wrote is left out (``written.py``), and ``output``, where this run's results go,
    as a whole; videos and pictures that cannot be read here are left out with a warning.

    A list's lines are relative to its folder or else to the working folder, ``#`` starts a comment line; a line whose
    file is missing stays in (reading it fails later) unless all are missing.

    ``relative`` is the path below the folder (or the glob's or list's folder) without its suffix. Where two would
    write the same files (``a.jpg`` and ``a.png``; ``a.jpg`` and ``a_overlay.jpg``; ``a.jpg`` and ``a_masks/b.jpg``)
    both keep their suffix in the name (``a.jpg``, ``a.png``); where that is still not enough (same name from two
    folders) both get ``-`` and 12 hex digits of the SHA-256 of their absolute path or URL. The order of the sources
    does not matter.

    Raises:
        FileNotFoundError: nothing there. ValueError: a folder or list without pictures, a URL that is not http(s), a
            video, a picture of a kind that cannot be read here.
    """
    items = [specs] if isinstance(specs, (str, Path, Source)) else list(specs)
    found: dict[str, Source] = {}
    for item in items:
        for source in _expand(item, output):
            found.setdefault(identity(source.location), source)
    return distinct(list(found.values()))


def _expand(spec: str | Path | Source, output: str | Path | None) -> list[Source]:
    if isinstance(spec, Source):
        return [spec]
    if not isinstance(spec, (str, Path)):
        raise TypeError(f"a source is a path or URL, got {type(spec).__name__}; allowed: {_ALLOWED}")
    if str(spec).lower().endswith(".parquet"):
        return _paths(str(spec), read_paths(str(spec)))
    if is_object_store(str(spec)):
        return _objects(str(spec))
    if is_url(str(spec)):
        return [_url_source(str(spec))]
    path = user_path(spec)
    if str(spec).strip() and os.path.isdir(path):
        return _folder(path, output)
    if is_file(path):
        if reason := unreadable(path.suffix):
            raise ValueError(f"{str(path)!r} is {reason}")
        return _list_file(path) if path.suffix.lower() == ".txt" else [_below(path, path.parent)]
    if glob.has_magic(str(path)) and (sources := _glob(path, output)):
        return sources
    raise FileNotFoundError(f"no picture at {str(spec)!r}; {_near_file(path)}allowed: {_ALLOWED}")


def _near_file(path: Path) -> str:
    """ "did you mean 'photo.jpg'? " where the folder holds a name like it; "" otherwise, and for globs."""
    if glob.has_magic(str(path)) or not path.parent.is_dir():
        return ""
    hint = near_miss(path.name, sorted(entry.name for entry in os.scandir(path.parent) if entry.name[0] != "."))
    return hint.replace("did you mean '", f"did you mean '{path.parent}/") if hint and path.parent.name else hint


def _objects(uri: str) -> list[Source]:
    root = PurePosixPath(uri.partition("://")[2])
    found = [name for name in list_objects(uri) if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise ValueError(f"no pictures at {uri!r}: looked for {' '.join(IMAGE_SUFFIXES)}, sub-folders too")
    inside = [PurePosixPath(name.partition("://")[2]) for name in found]
    places = [PurePosixPath(path.name) if path == root else path.relative_to(root) for path in inside]
    return [Source(name, place.with_name(place.stem)) for name, place in zip(found, places, strict=True)]


def _glob(pattern: Path, output: str | Path | None) -> list[Source]:
    fixed = [glob.has_magic(part) for part in pattern.parts].index(True)
    root = Path(*pattern.parts[:fixed])
    hits = sorted(Path(hit) for hit in glob.glob(str(pattern), recursive=True) if Path(hit).is_file())
    elsewhere = None if output is None or in_output(root / "x", output) else output  # results beside the pictures
    kept = readable([hit for hit in hits if not in_output(hit, elsewhere) and not was_written(hit)], root)
    return [_below(hit, root) for hit in kept]


def _folder(root: Path, output: str | Path | None) -> list[Source]:
    if is_output(root):
        raise ValueError(f"{str(root)!r} holds what a run wrote, no pictures; to read it all the same remove {MARKER}")
    seen, files = {os.path.realpath(root)}, []
    for folder, folders, names in os.walk(root, onerror=_say, followlinks=True):
        descend = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(folder, name))
            if not name.startswith(".") and real not in seen and not is_output(real, output):
                seen.add(real)
                descend.append(name)
        folders[:] = descend  # os.walk goes into these only
        files += own_files(folder, [n for n in names if n[0] != "."])
    kept = readable(sorted(files), root)
    if not kept:
        raise ValueError(f"no pictures in folder {str(root)!r}: looked for {' '.join(IMAGE_SUFFIXES)}, sub-folders too")
    return [_below(path, root) for path in kept]


def _say(error: OSError) -> None:
    """A folder that cannot be read costs its own pictures, and is named."""
    warnings.warn(f"folder {str(error.filename)!r} is left out: {error.strerror}", UserWarning, stacklevel=4)


def _list_file(path: Path) -> list[Source]:
    try:
        text = read_text(path)
    except ValueError as error:
        raise ValueError(f"the list {error}") from error
    if "\0" in text:
        raise ValueError(f"the list {str(path)!r} holds zero bytes; a text with one path or URL a line is needed")
    lines = [line.strip().strip('"') for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError(f"the list {str(path)!r} names no picture; one path or URL a line, '#' starts a comment")
    return _paths(path, lines)


def _paths(list_path: str | Path, lines: list[str]) -> list[Source]:
    """Sources of the paths and URLs in a list."""
    path = Path(list_path)
    sources, present = [], False
    for line in lines:
        if "\\" in line and not is_url(line) and not is_file(path.parent / line) and not is_file(line):
            line = line.replace("\\", "/")  # a list that was written on Windows
        given = user_path(line)
        beside = path.parent / given
        if is_object_store(line):
            name = PurePosixPath(line.partition("://")[2])
            sources.append(Source(line, PurePosixPath(name.stem)))
            present = True
        elif is_url(line):
            sources.append(_url_source(line))
            present = True
        elif is_file(beside) or not is_file(given):
            sources.append(_below(beside, path.parent))
            present = present or is_file(beside)
        else:
            sources.append(_below(given, Path()))
            present = True
    if not present:
        raise FileNotFoundError(
            f"none of the {len(lines)} files in the list {str(path)!r} exists (first: {lines[0]!r}); "
            f"lines are URLs or paths relative to {str(path.parent)!r} or to the working folder"
        )
    return sources


def _below(path: Path, root: Path) -> Source:
    """Source of a file, named by its path below ``root``, by its name alone where it lies elsewhere."""
    file, folder = os.path.abspath(path), os.path.abspath(root)
    inside = file.startswith(folder.rstrip(os.sep) + os.sep)
    relative = Path(os.path.relpath(file, folder)) if inside else Path(path.name)
    return Source(str(path), PurePosixPath(relative.with_name(relative.stem).as_posix()))


def _url_source(url: str) -> Source:
    return Source(url, PurePosixPath(source_name(check_url(url))))
