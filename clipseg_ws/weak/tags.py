"""Weak labels from files: which classes are in which picture, from CSV, JSON, COCO json, VOC XML or folder names.

All readers give ``Tags``: picture name -> tags. A picture's name is its path as written in the file, ``/`` between
folders, without suffix; where two pictures differ in the suffix only (``a.jpg``, ``a.png``) both names keep it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from clipseg_ws.pictures.sources import Source
from clipseg_ws.weak import TAG_FORMATS, titles
from clipseg_ws.weak.names import Names, normal_name, spellings, spelt, split_tags, stem
from clipseg_ws.weak.readers.forms import Tagged, read_file, readers


class Tags(dict[str, tuple[str, ...]]):
    """Picture name -> tags, in the file's order, each once; ``()`` for a picture that is known to hold no class."""

    @cached_property
    def by_file_name(self) -> dict[str, list[str]]:
        """Last part of a name -> the names that end in it."""
        index: dict[str, list[str]] = {}
        for name in self:
            index.setdefault(PurePosixPath(name).name, []).append(name)
        return index


def read_tags(path: str | Path, names: Names | None = None) -> Tags:
    """Read image tags.

    * CSV (tab-separated as .tsv): columns ``image`` (or file, filename) and ``tags`` (or labels, classes, ...), several
      tags joined by ``;`` or ``|``, or one row a tag. Without such a header: the picture first, tags in all others.
    * JSON: ``{"a.jpg": ["cat"]}`` or ``[{"image": "a.jpg", "tags": ["cat"]}]``; COCO json: the categories annotated.
    * VOC XML, a file or a folder of them, sub-folders too: the object names, under the XML file's own name.

    Args:
        names: the classes that may occur, or a vocabulary whose synonyms count as well; letter case does not matter,
            the result has the spelling of ``names``. None: any tag is taken as it is.

    Raises:
        FileNotFoundError. ValueError: another kind of file, a damaged one, or a tag that is not in ``names``.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no tags at {str(path)!r}; allowed: {titles(TAG_FORMATS)}")
    pairs: Tagged = []
    for file, place in _files(path):
        pairs += read_file(file, place, TAG_FORMATS)
    return _collect(pairs, names, str(path))


def _files(path: Path) -> list[tuple[Path, str]]:
    """(file, name of its picture) of a file, or of those in a folder whose form is read from folders."""
    known = readers(TAG_FORMATS)
    if not path.is_dir():
        if path.suffix.lower() not in known:
            allowed = titles(TAG_FORMATS)
            raise ValueError(f"cannot tell the kind of {str(path)!r} by its suffix; allowed: {allowed}")
        return [(path, path.stem)]
    suffixes = [suffix for suffix, mine in known.items() if any(reader.folders for reader in mine)]
    files = sorted(file for suffix in suffixes for file in path.rglob(f"*{suffix}"))
    if not files:
        raise ValueError(
            f"no {' or '.join(suffixes)} in folder {str(path)!r}; allowed: {titles(TAG_FORMATS)}; see also "
            "tags_from_folders"
        )
    return [(file, file.relative_to(path).with_suffix("").as_posix()) for file in files]


def tags_from_folders(sources: Iterable[Source], names: Names | None = None) -> Tags:
    """The name of a picture's folder below the folder that was listed is its tag: ``photos/cat/1.jpg`` -> cat.

    Several tags are joined by ``;`` or ``|`` as in CSV; a picture that lies in no sub-folder is left out.
    """
    found = {str(s.relative): s.relative.parent.name for s in sources if s.relative.parent.name}
    known = spellings(names)
    return Tags({k: spelt(split_tags(folder), known, names, f"folder of {k!r}") for k, folder in found.items()})


def lookup_tags(tags: Mapping[str, tuple[str, ...]], source: Source | str | Path) -> tuple[str, ...] | None:
    """Tags of one picture, None where the table does not hold it.

    Tried in order: the name below the listed folder; the end of its path, longest first; the file name alone, if the
    table has it in one folder only.

    Raises:
        ValueError: the file name fits several entries with different tags.
    """
    location = normal_name(str(source))
    names = [str(source.relative)] if isinstance(source, Source) else []
    parts = location.split("/")
    names += ["/".join(parts[start:]) for start in range(len(parts))]
    for name in names:
        for key in (name, stem(name)):
            if key in tags:
                return tags[key]
    index = (tags if isinstance(tags, Tags) else Tags(tags)).by_file_name
    fits = index.get(parts[-1], []) or index.get(stem(parts[-1]), [])
    if len({frozenset(tags[key]) for key in fits}) > 1:
        raise ValueError(f"{str(source)!r} fits several entries of the tag file: {', '.join(fits[:5])}; add folders")
    return tags[fits[0]] if fits else None


def _collect(pairs: Iterable[tuple[str, Sequence[str]]], names: Names | None, where: str) -> Tags:
    """Tags of the same picture joined, names without suffix where that is clear, tags checked."""
    joined: dict[str, list[str]] = {}
    for image, tags in pairs:
        if not isinstance(image, str) or not image.strip():
            raise ValueError(f"{where}: an entry with tags {', '.join(tags)!r} lacks its picture's name, got {image!r}")
        joined.setdefault(normal_name(image), []).extend(tags)
    shared = Counter(stem(name) for name in joined)
    known, result = spellings(names), Tags()
    for name, found in joined.items():
        key = name if shared[stem(name)] > 1 else stem(name)
        result[key] = spelt(found, known, names, f"{where}, picture {name!r}")
    return result
