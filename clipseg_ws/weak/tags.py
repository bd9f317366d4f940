"""Weak labels from files: which classes are in which picture, from CSV, JSON, COCO json, VOC XML or folder names.

All readers give ``Tags``: picture name -> tags. A picture's name is its path as written in the file, ``/`` between
folders, without suffix; where two pictures differ in the suffix only (``a.jpg``, ``a.png``) both names keep it.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from clipseg_ws.pictures.sources import IMAGE_SUFFIXES, Source
from clipseg_ws.structures import Vocabulary

IMAGE_COLUMNS = ("image", "file", "filename", "file_name")
TAG_COLUMNS = ("tags", "tag", "labels", "label", "classes", "class")
_KINDS = "CSV or TSV (image,tags), JSON, COCO json, VOC XML (a file or a folder of them)"


class Tags(dict[str, tuple[str, ...]]):
    """Picture name -> tags, in the file's order, each once; ``()`` for a picture that is known to hold no class."""

    @cached_property
    def by_file_name(self) -> dict[str, list[str]]:
        """Last part of a name -> the names that end in it."""
        index: dict[str, list[str]] = {}
        for name in self:
            index.setdefault(PurePosixPath(name).name, []).append(name)
        return index


def read_tags(path: str | Path, names: Sequence[str] | Vocabulary | None = None) -> Tags:
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
        raise FileNotFoundError(f"no tags at {str(path)!r}; allowed: {_KINDS}")
    suffix = path.suffix.lower()
    if path.is_dir():
        pairs = _voc(sorted(path.rglob("*.xml")), path)
        if not pairs:
            raise ValueError(f"no VOC XML in folder {str(path)!r}; allowed: {_KINDS}; see also tags_from_folders")
    elif suffix in (".csv", ".tsv"):
        pairs = _csv(path)
    elif suffix == ".json":
        pairs = _json(path)
    elif suffix == ".xml":
        pairs = _voc([path], path.parent)
    else:
        raise ValueError(f"cannot tell the kind of {str(path)!r} by its suffix; allowed: {_KINDS}")
    return _collect(pairs, names, str(path))


def tags_from_folders(sources: Iterable[Source], names: Sequence[str] | Vocabulary | None = None) -> Tags:
    """The name of a picture's folder below the folder that was listed is its tag: ``photos/cat/1.jpg`` -> cat.

    Several tags are joined by ``;`` or ``|`` as in CSV; a picture that lies in no sub-folder is left out.
    """
    found = {str(s.relative): s.relative.parent.name for s in sources if s.relative.parent.name}
    canonical = _canonical(names)
    return Tags({k: _checked(_split(folder), canonical, names, f"folder of {k!r}") for k, folder in found.items()})


def lookup_tags(tags: Mapping[str, tuple[str, ...]], source: Source | str | Path) -> tuple[str, ...] | None:
    """Tags of one picture, None where the table does not hold it.

    Tried in order: the name below the listed folder; the end of its path, longest first; the file name alone, if the
    table has it in one folder only.

    Raises:
        ValueError: the file name fits several entries with different tags.
    """
    location = _normal(str(source))
    names = [str(source.relative)] if isinstance(source, Source) else []
    parts = location.split("/")
    names += ["/".join(parts[start:]) for start in range(len(parts))]
    for name in names:
        for key in (name, _stem(name)):
            if key in tags:
                return tags[key]
    index = (tags if isinstance(tags, Tags) else Tags(tags)).by_file_name
    fits = index.get(parts[-1], []) or index.get(_stem(parts[-1]), [])
    if len({frozenset(tags[key]) for key in fits}) > 1:
        raise ValueError(f"{str(source)!r} fits several entries of the tag file: {', '.join(fits[:5])}; add folders")
    return tags[fits[0]] if fits else None


def _collect(pairs: Iterable[tuple[str, Sequence[str]]], names: Sequence[str] | Vocabulary | None, where: str) -> Tags:
    """Tags of the same picture joined, names without suffix where that is clear, tags checked."""
    joined: dict[str, list[str]] = {}
    for image, tags in pairs:
        if not isinstance(image, str) or not image.strip():
            raise ValueError(f"{where}: an entry with tags {', '.join(tags)!r} lacks its picture's name, got {image!r}")
        joined.setdefault(_normal(image), []).extend(tags)
    shared = Counter(_stem(name) for name in joined)
    canonical, result = _canonical(names), Tags()
    for name, found in joined.items():
        key = name if shared[_stem(name)] > 1 else _stem(name)
        result[key] = _checked(found, canonical, names, f"{where}, picture {name!r}")
    return result


def _canonical(names: Sequence[str] | Vocabulary | None) -> dict[str, str] | None:
    if names is None:
        return None
    if not isinstance(names, Vocabulary):
        return {name.casefold(): name for name in names}
    words = {w.casefold(): n for n, synonyms in zip(names.names, names.synonyms, strict=True) for w in synonyms}
    return words | {name.casefold(): name for name in names.names}


def _checked(
    tags: Iterable[str], canonical: dict[str, str] | None, names: Sequence[str] | Vocabulary | None, where: str
) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for tag in (tag.strip() for tag in tags):
        if tag and canonical is not None and tag.casefold() not in canonical:
            allowed = names.names if isinstance(names, Vocabulary) else names or ()
            raise ValueError(f"{where}: tag {tag!r} is not one of the classes; allowed: {', '.join(allowed)}")
        if tag:
            found[tag if canonical is None else canonical[tag.casefold()]] = None
    return tuple(found)


def _normal(name: str) -> str:
    return PurePosixPath(name.strip().replace("\\", "/")).as_posix().lstrip("/")


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else name


def _split(text: str) -> list[str]:
    return [tag.strip() for tag in re.split(r"[;|]", text)]


def _csv(path: Path) -> list[tuple[str, list[str]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not a UTF-8 CSV file: {error}") from error
    if not rows:
        raise ValueError(f"{str(path)!r} is empty; it needs rows such as 'photo_1.jpg,cat;dog'")
    header = [cell.strip().casefold() for cell in rows[0][1]]
    images, tags = ([i for i, c in enumerate(header) if c in known] for known in (IMAGE_COLUMNS, TAG_COLUMNS))
    if _stem(header[0]) != header[0] or not (images or tags):  # a picture's name is no heading
        if all(len(row) == 1 for _, row in rows):
            raise ValueError(f"{str(path)!r} has one column only, first {rows[0][1][0]!r}; write 'photo_1.jpg,cat;dog'")
        return [(row[0], [tag for cell in row[1:] for tag in _split(cell)]) for _, row in rows]
    if len(images) != 1 or len(tags) != 1:
        raise ValueError(
            f"{str(path)!r} has the columns {', '.join(header)}; it needs one of {', '.join(IMAGE_COLUMNS)} "
            f"and one of {', '.join(TAG_COLUMNS)}, e.g. 'image,tags'"
        )
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise ValueError(f"{str(path)!r}, line {line}: {len(row)} cells, the header has {len(header)}: {row}")
    return [(row[images[0]], _split(row[tags[0]])) for _, row in rows[1:]]


def _json(path: Path) -> list[tuple[str, list[str]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # not JSON, not UTF-8
        raise ValueError(f"{str(path)!r} is not JSON: {error}") from error
    try:
        if isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys():
            return _coco(content)
        if isinstance(content, dict):
            return [(image, _tag_list(tags)) for image, tags in content.items()]
        return [(_first(entry, IMAGE_COLUMNS), _tag_list(_first(entry, TAG_COLUMNS))) for entry in content]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{str(path)!r} is none of the known forms ({error}); allowed: "
            '{"a.jpg": ["cat"]}, [{"image": "a.jpg", "tags": ["cat"]}], COCO json with images, annotations, categories'
        ) from error


def _tag_list(tags: Any) -> list[str]:
    if isinstance(tags, str):
        return _split(tags)
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise TypeError(f"tags must be text or a list of texts, got {tags!r:.80}")
    return tags


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    found = [key for key in keys if key in entry]
    if not found:
        raise KeyError(f"no {' or '.join(keys)} in {entry!r:.80}")
    return entry[found[0]]


def _coco(content: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Category names a picture, in category order; a picture without annotations has none."""
    names = {category["id"]: str(category["name"]) for category in content["categories"]}
    present: dict[Any, set[Any]] = {image["id"]: set() for image in content["images"]}
    for annotation in content["annotations"]:
        present[annotation["image_id"]].add(annotation["category_id"])
    if strange := set().union(*present.values()) - names.keys():
        raise KeyError(f"category_id {min(strange)} is not among the categories")
    return [
        (image["file_name"], [name for key, name in names.items() if key in present[image["id"]]])
        for image in content["images"]
    ]


def _voc(files: Iterable[Path], root: Path) -> list[tuple[str, list[str]]]:
    pairs = []
    for file in files:
        try:
            objects = ElementTree.parse(file).getroot().iterfind("object/name")
        except ElementTree.ParseError as error:
            raise ValueError(f"{str(file)!r} is not XML: {error}") from error
        pairs.append((file.relative_to(root).with_suffix("").as_posix(), [node.text or "" for node in objects]))
    return pairs
