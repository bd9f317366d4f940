"""Which class a word of the user means: the one rule for supports, tags, marks, weak-few labels and known classes.

Letter case, the kind and number of spaces, and how Unicode composes a letter do not matter; synonyms count as the name.
Several words joined by ``,`` ("person, people") stand for the class that one of them names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from clipseg_ws.structures import word_key

T = TypeVar("T")


def label_words(label: str) -> tuple[str, ...]:
    """The words of a label, joined by ``,``, as written but for their spaces; a repeated one once."""
    first: dict[str, str] = {}
    for word in label.split(","):
        if key := word_key(word):
            first.setdefault(key, " ".join(word.split()))
    return tuple(first.values())


def find_class(index: Mapping[str, T], label: str) -> T | None:
    """What ``index`` holds for a label: by the whole of it, else by its words; None where these disagree or fail.

    Args:
        index: ``word_key`` of every known word -> its class, see ``Vocabulary.index``.
    """
    whole = word_key(label)
    if whole in index:
        return index[whole]
    found = [index[key] for key in map(word_key, label_words(label)) if key in index]
    return found[0] if found and all(one == found[0] for one in found) else None


def same_classes(labels: Iterable[str]) -> list[list[str]]:
    """Labels that share a word together, in order of first occurrence; each label as written, once."""
    groups: list[tuple[set[str], list[str]]] = []
    for label in dict.fromkeys(labels):
        words = {word_key(word) for word in label_words(label)} or {word_key(label)}
        touched = [group for group in groups if group[0] & words]
        if not touched:
            groups.append((words, [label]))
            continue
        first, *others = touched
        first[0].update(words, *(group[0] for group in others))
        first[1].extend([*(one for group in others for one in group[1]), label])
        groups = [group for group in groups if not any(group is other for other in others)]
    return [members for _, members in groups]
