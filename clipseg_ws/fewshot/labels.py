"""Labels of supports and names of classes: which belongs to which, and other known words as rivals (BAM)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipseg_ws.activations.prototypes import cosine
from clipseg_ws.activations.suppress import known_level, own_words, rival_probability
from clipseg_ws.activations.textscores import best_words
from clipseg_ws.fewshot.bank import BankEntry, BankError, SupportBank
from clipseg_ws.fewshot.supports import UNNAMED
from clipseg_ws.structures import TextEmbeddings, Vocabulary
from clipseg_ws.text.matching import find_class, label_words, same_classes

VALUES = "values"  # the features that live in text space, see activations/featuremaps.py


def match_labels(labels: Sequence[str], vocabulary: Vocabulary, *, unnamed: bool = True) -> dict[str, int]:
    """Label -> index of its class as ``text.matching`` says; labels that are no class are left out.

    Supports without a name ("object") belong to the only class where there is one, unless ``unnamed`` is False.

    Raises:
        BankError: no label is a class.
    """
    index = vocabulary.index()
    if unnamed and len(vocabulary.names) == 1:
        index.setdefault(UNNAMED, 0)
    places = {label: find_class(index, label) for label in labels}
    found = {label: place for label, place in places.items() if place is not None}
    if not found:
        raise BankError(
            f"supports are labelled {', '.join(map(repr, labels))}, none of which is among the classes "
            f"{', '.join(vocabulary.names)}; use the same words, or leave the classes out to use the labels"
        )
    return found


def vocabulary_of(labels: Sequence[str]) -> Vocabulary:
    """The classes that labels stand for by themselves, without background words; those that share a word are one."""
    words = [label_words(", ".join(group)) or tuple(group) for group in same_classes(labels)]
    return Vocabulary(tuple(mine[0] for mine in words), tuple(words), ())


def joined_labels(bank: SupportBank, vocabulary: Vocabulary, *, unnamed: bool = True) -> SupportBank:
    """The bank with one label for all the supports of a class: the first of its labels. Others stay rivals as they are.

    Raises:
        BankError: no label is a class.
    """
    first: dict[int, str] = {}
    places = match_labels(bank.labels, vocabulary, unnamed=unnamed)
    return bank.renamed({label: first.setdefault(place, label) for label, place in places.items()})


def word_scores(values: Tensor, text: TextEmbeddings) -> Tensor:
    """Cosines with the best word of each class and every background word: [B, E, h, w] -> [B, C+G, h, w] float32."""
    return best_words(cosine(values, text.vectors.to(values.device)), text.owner, len(text.vocabulary.names))


def rivals(values: Tensor, bank: SupportBank, known: TextEmbeddings, scale: float) -> Tensor:
    """Probability that a patch belongs to a known word that is not what the supports of a class look like.

    Args:
        values: [B, E, h, w] patch embeddings of the queries in text space. bank: with the features "values".
        known: the embedded known words. scale: factor of the cosine before the softmax over them.

    Returns:
        [B, K, h, w] in [0, 1] for the K classes of the bank.
    """
    cells: dict[str, list[Tensor]] = {label: [] for label in bank.labels}
    shares: dict[str, list[Tensor]] = {label: [] for label in bank.labels}
    for entry in bank.entries:
        scores = word_scores(_values(entry, bank)[None], known)[0]  # [C+G, h, w]
        cells[entry.label].append(scale * scores.flatten(1).t())
        shares[entry.label].append(entry.foreground.flatten())
    profiles, levels = [], []
    for label in bank.labels:
        logits, weights = torch.cat(cells[label]), torch.cat(shares[label])
        profiles.append((logits.softmax(1) * weights[:, None]).sum(0) / weights.sum().clamp_min(1e-12))
        levels.append(known_level(logits, weights))
    return rival_probability(scale * word_scores(values, known), own_words(torch.stack(profiles)), torch.stack(levels))


def _values(entry: BankEntry, bank: SupportBank) -> Tensor:
    if VALUES not in entry.features:
        raise BankError(
            f"known words need the features {VALUES!r} of CLIP, this bank has {', '.join(bank.kinds)}; encode the "
            f"supports again with --set fewshot.kinds=[{', '.join((*bank.kinds, VALUES))}], without --features"
        )
    return entry.features[VALUES]
