"""Names that a model with a list of known words does not know: which they are, and which known word is nearest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache

from clipseg_ws.structures import Vocabulary, word_key

LOOKED_UP = 20  # unknown names whose nearest word is looked for; a comparison with thousands of words takes time
LISTED = 5  # unknown names that a warning names
_ALIKE = 0.75  # least ratio of difflib
_SINGULARS = ((r"ies$", "y"), (r"ves$", "f"), (r"ves$", "fe"), (r"men$", "man"), (r"es$", ""), (r"s$", ""))


class UnknownNameWarning(UserWarning):
    """A class whose words the model does not know."""


def unknown_names(vocabulary: Vocabulary, known_words: Sequence[str]) -> dict[str, str | None]:
    """Classes none of whose words is known -> the nearest known word, None where none is near.

    Letter case and spaces do not matter; one known synonym is enough. Background words are not looked at. Of many only
    the first ``LOOKED_UP`` get a nearest word.

    Args:
        known_words: of the model; empty: it knows no list, and no name is unknown.

    Example:
        >>> unknown_names(parse_classes("cat; stethoscopes"), ["cat", "stethoscope"])
        {'stethoscopes': 'stethoscope'}
    """
    if not known_words:
        return {}
    index = _index(tuple(known_words))
    unknown: dict[str, str | None] = {}
    for name, synonyms in zip(vocabulary.names, vocabulary.synonyms, strict=True):
        words = dict.fromkeys((name, *synonyms))
        if not any(word_key(word) in index for word in words):
            unknown[name] = _nearest(tuple(words), index) if len(unknown) < LOOKED_UP else None
    return unknown


def describe_unknown(unknown: Mapping[str, str | None], model: str, count: int) -> str:
    """One line for the user: how many things the ``model`` knows (``count``), and what is not among them.

    Example:
        >>> describe_unknown({"stethoscopes": "stethoscope"}, "photo", 1317)
        "photo knows about 1,300 things; 'stethoscopes' is not among them; nearest: stethoscope"
    """
    start, every = f"{model} knows {about(count)} things", f"all of them: clipseg-ws list names --model {model}"
    if len(unknown) == 1:
        ((name, near),) = unknown.items()
        return f"{start}; {name!r} is not among them; {every if near is None else f'nearest: {near}'}"
    shown = list(unknown.items())[:LISTED]
    listed = ", ".join(f"{name!r}" + ("" if near is None else f" (nearest: {near})") for name, near in shown)
    more = f" and {len(unknown) - LISTED} more" if len(unknown) > LISTED else ""
    return f"{start}; not among them: {listed}{more}; {every}"


def about(count: int) -> str:
    """ "12", "about 1,300": small numbers as they are, others with two digits."""
    if count < 100:
        return str(count)
    step = 10 ** (len(str(count)) - 2)
    return f"about {round(count / step) * step:,}"


@lru_cache(maxsize=8)
def _index(words: tuple[str, ...]) -> dict[str, str]:
    """``word_key`` -> the word as it is listed; ``lru_cache`` because a model's list does not change."""
    return {word_key(word): word for word in reversed(words)}


def _nearest(words: Sequence[str], index: Mapping[str, str]) -> str | None:
    """The known word that is most like one of ``words``: without its plural, as a part of it, else by its letters."""
    plain = [word_key(re.sub(r"[-_]", " ", word)) for word in words]
    for guess in (guess for key in plain for guess in _guesses(key)):
        if guess in index:
            return index[guess]
    close = [match for key in plain for match in get_close_matches(key, index, n=1, cutoff=_ALIKE)]
    return index[close[0]] if close else None


def _guesses(key: str) -> Iterator[str]:
    """ "red cars" -> "red cars", "red car", "cars", "car", "red": longer parts first, of these the later ones."""
    parts = key.split()
    for length in range(len(parts), 0, -1):
        for start in range(len(parts) - length, -1, -1):
            part = " ".join(parts[start : start + length])
            yield part
            for ending, singular in _SINGULARS:
                if re.search(ending, part):
                    yield re.sub(ending, singular, part)
