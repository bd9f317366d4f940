"""The classes of a document: names, synonyms, prompts of their own; what is refused and with which words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from clipseg_ws.structures import word_key
from clipseg_ws.text.lists import clean_word, nfc, unique

EXAMPLE = 'for example "cat; person, people, human"'


def class_entries(listed: Any, origin: str) -> list[tuple[str, tuple[str, ...]]]:
    """(display name, words) of every class, from a string or from the list of a document."""
    if isinstance(listed, str):  # parts that hold separators only are what stray ones leave
        listed = [part for part in re.split(r"[;\r\n]", nfc(listed)) if part.replace(",", " ").strip()]
    if not isinstance(listed, Sequence):
        raise ValueError(f"{origin}: classes is {type(listed).__name__}; give a list, {EXAMPLE}")
    entries = []
    for number, entry in enumerate(listed, 1):
        where = f"{origin}, class {number}"
        if isinstance(entry, Mapping):
            if not {"name"} <= set(entry) <= {"name", "words", "prompts"}:
                keys = ", ".join(map(str, entry)) or "nothing"
                raise ValueError(
                    f"{where}: got keys {keys}; a class is {{name: tv, words: [television, screen], prompts: [a flat "
                    f"{{}}]}}, words and prompts optional"
                )
            name = clean_word(entry["name"], where)
            entries.append((name, _words(entry.get("words", [name]), where)))
        else:
            words = _words(entry, where)
            entries.append((words[0], words))
    return entries


def class_prompts(listed: Any, names: Sequence[str], origin: str) -> tuple[tuple[str, ...], ...]:
    """Every class's own prompts in the order of ``names``; empty where no class has any."""
    entries = [entry for entry in listed if isinstance(entry, Mapping)] if not isinstance(listed, str) else []
    own: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        given = entry.get("prompts")
        given = [given] if isinstance(given, str) else given
        bad = given is not None and not isinstance(given, Sequence)
        if bad or any(not isinstance(p, str) or not p.strip() or p.count("{}") > 1 for p in given or ()):
            raise ValueError(
                f"{origin}, class {entry['name']!r}: prompts {given!r}; give sentences with one {{}} or none, for "
                'example ["a photo of a {}.", "a bird with large round eyes"]'
            )
        own[clean_word(entry["name"], origin)] = tuple(" ".join(nfc(p).split()) for p in given or ())
    return tuple(own.get(name, ()) for name in names) if any(own.values()) else ()


def _words(value: Any, where: str) -> tuple[str, ...]:
    """The words of one class, at least one: from "a, b" or from ["a", "b"]."""
    if isinstance(value, str):
        value = [word for word in nfc(value).split(",") if word.strip()]
    if not isinstance(value, Sequence):
        value = [value]  # clean_word names the type
    words = unique(clean_word(word, where) for word in value)
    if not words:
        raise ValueError(f"{where}: no word; remove the entry or name the class, {EXAMPLE}")
    return words


def check_distinct(classes: Sequence[tuple[str, tuple[str, ...]]], origin: str) -> None:
    """Raises ValueError if two classes share a name or a word (case ignored)."""
    for kind, groups in (("name", [(name,) for name, _ in classes]), ("word", [words for _, words in classes])):
        first: dict[str, int] = {}
        for index, group in enumerate(groups):
            for text in group:
                other = first.setdefault(word_key(text), index)
                if other != index:
                    pair = f"{classes[other][0]!r} and {classes[index][0]!r}"
                    raise ValueError(f"{origin}: the {kind} {text!r} stands for two classes, {pair}; keep it in one")
