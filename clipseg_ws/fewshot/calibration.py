"""How much a name counts beside its examples, decided on the examples themselves: each is left out once.

An example that is left out is segmented by the others and by the name, mixed with every weight of ``CHOICES``; the
weight wins that segments them best. The examples alone win unless a name gains ``GAIN``, because the ones that were
left out are segmented by one example less than a query is.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from clipseg_ws.activations.prototypes import cosine
from clipseg_ws.activations.textscores import best_words
from clipseg_ws.fewshot.bank import BankEntry, SupportBank
from clipseg_ws.fewshot.labels import VALUES
from clipseg_ws.fewshot.matcher import FewShotMatcher
from clipseg_ws.structures import TextEmbeddings

CHOICES = (0.0, 0.1, 0.25, 0.5, 1.0)
GAIN = 0.1  # least gain in IoU over the examples alone
MOST = 10  # examples of a class that are left out, evenly taken


def name_weights(matcher: FewShotMatcher, own: tuple[int, ...], text: TextEmbeddings, scale: float) -> Tensor:
    """The weight of the name in ``activations.combine`` for each of the C classes of a vocabulary.

    Args:
        matcher: the prepared bank. own: vocabulary index of each class it is asked for. scale: of the cosines with
            words before their softmax.

    Returns:
        [C] float32 in [0, 1] on the bank's device; ``config.text_weight`` where nothing can be left out: a class with
        fewer than two examples, with predicted masks, without words or background words, or a bank without the
        features "values".
    """
    bank = matcher.source
    device = matcher.bank.ways.device
    weights = torch.full((len(text.vocabulary.names),), matcher.config.text_weight, device=device)
    if VALUES not in bank.kinds or not bool((text.owner < 0).any()):
        return weights
    for place, label in zip(own, (matcher.labels[k] for k in matcher.asked), strict=True):
        entries = [entry for entry in bank.entries if entry.label == label and not entry.predicted]
        if len(entries) > 1 and bool((text.owner == place).any()):
            weights[place] = _best(bank, matcher, label, entries, text, place, scale)
    return weights


def _best(
    bank: SupportBank, matcher: FewShotMatcher, label: str, entries: list[BankEntry], text: TextEmbeddings,
    place: int, scale: float,
) -> float:  # fmt: skip
    """The choice for one class."""
    step = max(1, -(-len(entries) // MOST))
    found = []
    for entry in entries[::step]:
        rest = tuple(other for other in bank.entries if other is not entry)
        less = FewShotMatcher(replace(bank, entries=rest, asked=(label,)), matcher.config)
        shown = less({kind: value[None] for kind, value in entry.features.items()}).probabilities[0].clamp_min(1e-6)
        examples = shown[1].log() - shown[0].log()
        name = name_evidence(entry.features[VALUES], text, place, scale)
        found.append(torch.stack([_iou((1 - w) * examples + w * name > 0, entry) for w in CHOICES]))
    scores = torch.stack(found).mean(0)
    top = int(scores.argmax())
    return CHOICES[top] if bool(scores[top] >= scores[0] + GAIN) else 0.0


def name_evidence(values: Tensor, text: TextEmbeddings, place: int, scale: float) -> Tensor:
    """[h, w] logarithm of how much likelier a name is than all background words together, of values [E, h, w]."""
    logits = scale * cosine(values[None], text.vectors.to(values.device))
    scores = best_words(logits, text.owner, len(text.vocabulary.names))[0]
    return scores[place] - scores[len(text.vocabulary.names) :].logsumexp(0)


def _iou(said: Tensor, entry: BankEntry) -> Tensor:
    """IoU in [0, 1] of cells [h, w] with an example's mask, every cell counting by its share."""
    hit = said.float()
    return (hit * entry.foreground).sum() / (entry.foreground + hit * entry.background).sum().clamp_min(1e-12)
