"""Background words chosen for the classes at hand: near enough to compete, not so near that they take a class's pixels.

Without background words the softmax gives every patch to some class (CLIP-ES: 29.5 instead of 58.6 mIoU). The known
lists are made for one data set each; here the candidates are all of them, compared with the classes in text space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clipseg_ws.structures import Vocabulary, word_key
from clipseg_ws.text.embeddings import EncodeText, embed_vocabulary
from clipseg_ws.text.lists import list_backgrounds, load_background, read_prompts, unique

COUNT = 25  # as many as CLIP-ES uses
ALIKE = 0.9  # cosine from which a word counts as the class itself where there is no second class to compare with


@dataclass(frozen=True)
class BackgroundWord:
    """A candidate: its largest cosine with a class word, that class, and whether it was chosen."""

    word: str
    similarity: float
    nearest: str
    chosen: bool


def candidate_words() -> tuple[str, ...]:
    """All words of the background lists and the plain stuff of coco-stuff, each once."""
    lists = [word for name in list_backgrounds() for word in load_background(name) if word != "background"]
    stuff = read_prompts("coco-stuff")["classes"][80:]  # the 80 before are things; "wall-brick" is no word
    return unique([*lists, *(word for word in stuff if "-" not in word)])


def rank_background(
    vocabulary: Vocabulary,
    encode_text: EncodeText,
    *,
    candidates: Sequence[str] | None = None,
    count: int = COUNT,
    weights_key: str | None = None,
    cache_dir: str | Path | None = None,
) -> list[BackgroundWord]:
    """Every candidate, the most similar to a class first; the first ``count`` that are not too similar are chosen.

    Too similar is a word that is nearer to a class than the two nearest classes are to one another (``ALIKE`` with one
    class alone): the classes' own distances say how finely this model and these names are told apart. Words that a
    class uses are no candidates.

    Raises:
        ValueError: ``count`` below 0.
    """
    if count < 0:
        raise ValueError(f"count={count}; give 0 or more background words, for example 25")
    taken = vocabulary.index()
    words = [word for word in candidates or candidate_words() if word_key(word) not in taken]
    both = replace(vocabulary, background=tuple(words))
    text = embed_vocabulary(both, encode_text, weights_key=weights_key, cache_dir=cache_dir)
    own, other = text.vectors[text.owner >= 0], text.vectors[text.owner < 0]
    owner = text.owner[text.owner >= 0]
    among = (own @ own.T)[owner[:, None] != owner]  # cosines between words of different classes
    limit = float(among.max()) if len(among) else ALIKE
    if not len(words):
        return []
    best, index = (other @ own.T).max(1)
    ranked, left = [], count
    for i in best.argsort(descending=True, stable=True).tolist():
        chosen = float(best[i]) < limit and left > 0
        left -= chosen
        ranked.append(BackgroundWord(words[i], float(best[i]), vocabulary.names[int(owner[index[i]])], chosen))
    return ranked


def choose_background(vocabulary: Vocabulary, encode_text: EncodeText, weights_key: str | None = None) -> Vocabulary:
    """The vocabulary with the chosen words as its background words."""
    ranked = rank_background(vocabulary, encode_text, weights_key=weights_key)
    return replace(vocabulary, background=tuple(entry.word for entry in ranked if entry.chosen))
