"""General words: a model with a list of names knows "animal" best as the cats, dogs and birds that it has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from clipseg_ws.structures import Vocabulary, word_key


def with_kinds(vocabulary: Vocabulary, kinds: Mapping[str, Sequence[str]]) -> Vocabulary:
    """A vocabulary whose general words are looked for as their kinds too, each a word of its own.

    A kind that is a class of its own (or a synonym of one) stays with it, background words that are a kind of a class
    go. A class with prompts of its own is left as it is.

    Args:
        kinds: general word -> names of its kinds, of the model's card; empty: nothing changes.

    Example:
        >>> with_kinds(parse_classes("animal; cat"), {"animal": ["cat", "dog"]}).kinds
        (('dog',), ())
    """
    known = {word_key(word): tuple(names) for word, names in kinds.items()}
    taken = set(vocabulary.index())
    own: list[tuple[str, ...]] = []
    for index, words in enumerate(vocabulary.synonyms):
        described = bool(vocabulary.prompts) and bool(vocabulary.prompts[index])
        general = () if described else (known.get(word_key(word), ()) for word in words)
        found = dict.fromkeys(name for names in general for name in names if word_key(name) not in taken)
        taken |= {word_key(name) for name in found}
        own.append(tuple(found))
    if not any(own):
        return replace(vocabulary, kinds=())
    said = vocabulary.background
    left = None if said is None else tuple(word for word in said if word_key(word) not in taken)
    return replace(vocabulary, kinds=tuple(own), background=left)
