"""Tags in plain JSON: ``{"a.jpg": ["cat"]}`` or ``[{"image": "a.jpg", "tags": ["cat"]}]``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipseg_ws.weak.names import split_tags
from clipseg_ws.weak.readers.forms import Found, Reader, Tagged, load_json
from clipseg_ws.weak.readers.table import IMAGE_COLUMNS, TAG_COLUMNS
from clipseg_ws.weak.written import Name

_OTHER = {"annotations", "shapes", "images", "completions", "category_id"}  # keys of other tools' files


def recognises(content: Any) -> bool:
    """Any mapping or list that is of no other form."""
    if isinstance(content, dict):
        return not _OTHER & content.keys()
    return isinstance(content, list) and not any(isinstance(e, dict) and _OTHER & e.keys() for e in content[:5])


def read_tags(content: Any, place: str) -> Tagged:
    """The tags of every picture; a text holds several joined by ``;`` or ``|``."""
    if isinstance(content, dict):
        pairs = [(f"key {i + 1}", image, _tag_list(tags)) for i, (image, tags) in enumerate(content.items())]
    else:
        pairs = [
            (f"entry {i + 1}", _first(entry, IMAGE_COLUMNS), _tag_list(_first(entry, TAG_COLUMNS)))
            for i, entry in enumerate(content)
        ]
    for row, image, tags in pairs:
        if not isinstance(image, str):
            raise ValueError(f"{row}: an entry with tags {', '.join(tags)!r} lacks its picture's name, got {image!r}")
    return [Found(Name((image,), row=row), tags) for row, image, tags in pairs]


def _tag_list(tags: Any) -> list[str]:
    if isinstance(tags, str):
        return split_tags(tags)
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise TypeError(f"tags must be text or a list of texts, got {tags!r:.80}")
    return tags


def _first(entry: Mapping[str, Any], keys: Sequence[str]) -> Any:
    found = [key for key in keys if key in entry]
    if not found:
        raise KeyError(f"no {' or '.join(keys)} in {entry!r:.80}")
    return entry[found[0]]


TAGS = Reader((".json", ".jsonl"), load_json, recognises, read_tags, folders=False)
