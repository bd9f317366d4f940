"""From patch or pixel embeddings to class probabilities: the post-processing that the dense family shares.

cosine -> times the logit scale -> softmax over all words -> maximum over the words of a class (SCLIP, ClearCLIP,
NACLIP and ProxyCLIP all do this; scale and thresholds differ and are configuration). Labels: ``class_labels``.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


def word_logits(embeddings: Tensor, text: Tensor) -> Tensor:
    """Cosine of unit embeddings [B, h, w, E] with unit words [T, E] -> [B, T, h, w] in [-1, 1], float32."""
    scores = embeddings.float() @ text.to(embeddings.device).float().T
    return scores.permute(0, 3, 1, 2)  # [B, h, w, T] -> [B, T, h, w]


def class_probabilities(
    logits: Tensor, owner: Tensor, num_classes: int, scale: float, allowed: Tensor | None = None
) -> Tensor:
    """Softmax over words, then the maximum over the words of each class.

    Args:
        logits: [B, T, H, W] cosines. owner: [T] class index of each word, -1 for background words.
        num_classes: C. scale: factor before the softmax (40 to 100).
        allowed: [B, C] bool, classes whose words take part in image b's softmax (background words always do); all by
            default. An image with no allowed class and no background word gets zeros.

    Returns [B, 1+C, H, W] in [0, 1], background first. The background is 0 where no word belongs to it, a class
    without words or that is not allowed is 0. The channels do not add up to 1 where classes have several words.

    Raises:
        ValueError: ``owner`` does not fit the logits or names a class >= num_classes.
    """
    check_owner(owner, logits.shape[1], num_classes)
    index = owner.to(logits.device) + 1
    scores = logits * scale
    if allowed is not None:
        words = torch.cat([torch.ones_like(allowed[:, :1]), allowed], 1)[:, index]  # [B, 1+C] -> [B, T]
        scores = scores.masked_fill(~words[:, :, None, None], -torch.inf)
    probabilities = scores.softmax(1)
    if allowed is not None:  # every word masked: nan, as nothing else here makes it; one from the model stays
        probabilities = probabilities.masked_fill(~words.any(1)[:, None, None, None], 0.0)
    empty = probabilities.new_zeros(logits.shape[0], num_classes + 1, *logits.shape[2:])
    index = index.view(1, -1, 1, 1).expand_as(probabilities)
    return empty.scatter_reduce(1, index, probabilities, "amax", include_self=True)


def best_words(logits: Tensor, owner: Tensor, num_classes: int) -> Tensor:
    """The best word of each class, background words kept apart: [B, T, ...] -> [B, C+G, ...], classes first.

    A softmax over the result does not change when a synonym is given twice, unlike one over all words. A class without
    words gets -inf. Raises ValueError as ``class_probabilities``.
    """
    check_owner(owner, logits.shape[1], num_classes)
    words = words_of(owner.to(logits.device))
    own = logits.index_select(1, words.named)
    index = words.classes.view(1, -1, *[1] * (logits.ndim - 2)).expand_as(own)
    empty = logits.new_full((logits.shape[0], num_classes, *logits.shape[2:]), -torch.inf)
    return torch.cat([empty.scatter_reduce(1, index, own, "amax"), logits.index_select(1, words.background)], 1)


@dataclass(frozen=True, eq=False)
class Words:
    """What an ``owner`` [T] says, read by the host once for each such tensor.

    Attributes:
        smallest, largest: of its indices; None without words.
        named: [N] int64, rows of words of classes; classes: [N], theirs. background: [G] int64, rows of the others.
    """

    smallest: int | None
    largest: int | None
    named: Tensor
    classes: Tensor
    background: Tensor


_WORDS: MutableMapping[Tensor, Words] = WeakTensorKeyDictionary()  # a question's owner is asked in every batch


def words_of(owner: Tensor) -> Words:
    """``Words`` of [T] int64, on its device. Only the first call for a tensor reads it; it must not be changed then."""
    found = _WORDS.get(owner)
    if found is None:
        values = owner.detach().cpu().flatten()
        named, background = (values >= 0).nonzero().flatten(), (values < 0).nonzero().flatten()
        ends = (int(values.min()), int(values.max())) if len(values) else (None, None)
        found = Words(*ends, *(rows.to(owner.device) for rows in (named, values[named], background)))
        _WORDS[owner] = found
    return found


def check_owner(owner: Tensor, words: int, num_classes: int) -> None:
    """Raise ValueError unless ``owner`` has one class index in -1..num_classes-1 for each of the words."""
    known = words_of(owner)
    smallest, largest = known.smallest, known.largest
    if owner.shape != (words,) or largest is None or smallest is None or largest >= num_classes or smallest < -1:
        raise ValueError(
            f"owner has shape {tuple(owner.shape)} and indices {smallest}..{largest}; one index in "
            f"-1..{num_classes - 1} for each of the {words} words is needed, for example [0, 0, 1, -1]"
        )


def drop_small_classes(probabilities: Tensor, area_threshold: float) -> Tensor:
    """SCLIP's area rule: a class that wins too small a share of the foreground gets probability 0 everywhere.

    Args:
        probabilities: [B, 1+C, H, W], background first.
        area_threshold: class c goes if n_c <= area_threshold * sum of n over the classes, n = pixels won by arg-max.

    Each image is treated alone. An image without any foreground pixel keeps no class, as in the paper's code.
    """
    classes = probabilities.shape[1]
    won = torch.nn.functional.one_hot(probabilities.argmax(1), classes)[..., 1:].sum((1, 2))  # [B, C] pixels
    keep = won > area_threshold * won.sum(1, keepdim=True)
    mask = torch.cat([torch.ones_like(keep[:, :1]), keep], 1)  # [B, 1+C]
    return probabilities * mask[:, :, None, None]


def class_labels(probabilities: Tensor, threshold: float = 0.0) -> Tensor:
    """[B, 1+C, H, W] -> labels [B, H, W] int64: arg-max, and 0 where the largest probability is below ``threshold``."""
    best, labels = probabilities.max(1)
    return torch.where(best < threshold, torch.zeros_like(labels), labels)
