"""From patch or pixel embeddings to class probabilities: the post-processing that the dense family shares.

cosine -> times the logit scale -> softmax over all words -> maximum over the words of a class (SCLIP, ClearCLIP,
NACLIP and ProxyCLIP all do this; scale and thresholds differ and are configuration). Labels: ``class_labels``.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
    owner = owner.to(logits.device)
    own = logits[:, owner >= 0]
    index = owner[owner >= 0].view(1, -1, *[1] * (logits.ndim - 2)).expand_as(own)
    empty = logits.new_full((logits.shape[0], num_classes, *logits.shape[2:]), -torch.inf)
    return torch.cat([empty.scatter_reduce(1, index, own, "amax"), logits[:, owner < 0]], 1)


def check_owner(owner: Tensor, words: int, num_classes: int) -> None:
    """Raise ValueError unless ``owner`` has one class index in -1..num_classes-1 for each of the words."""
    largest = int(owner.max()) if owner.numel() else None
    smallest = int(owner.min()) if owner.numel() else None
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
