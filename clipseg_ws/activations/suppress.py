"""Suppression of other known classes: whoever is known takes the pixels it wins, so that a new class cannot have them
(BAM, Lang et al., CVPR 2022, arXiv 2203.07615, whose trained base learner becomes prompts and prototypes here).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def suppress(probabilities: Tensor, rivals: Tensor) -> Tensor:
    """Give the background what rivals win.

    Args:
        probabilities: [B, 1+K, h, w], background first, rows adding up to 1.
        rivals: [B, K, h, w] or [B, 1, h, w] in [0, 1], probability that the pixel belongs to another known class.

    Returns:
        [B, 1+K, h, w]: each class times (1 - rivals), the background what is left to 1.
    """
    kept = probabilities[:, 1:] * (1 - rivals)
    return torch.cat([1 - kept.sum(1, keepdim=True), kept], 1).clamp_min(0)


def fold(probabilities: Tensor, asked: Sequence[int]) -> Tensor:
    """Classes that competed but were not asked for become background.

    Args:
        probabilities: [B, 1+K, h, w], background first. asked: class indices (0-based) to keep, in this order.

    Returns:
        [B, 1+len(asked), h, w], the same sums.
    """
    kept = probabilities[:, [1 + k for k in asked]]
    others = [c for c in range(probabilities.shape[1]) if c == 0 or c - 1 not in set(asked)]
    return torch.cat([probabilities[:, others].sum(1, keepdim=True), kept], 1)


def rival_probability(logits: Tensor, own: Tensor, level: Tensor) -> Tensor:
    """Probability that a pixel belongs to a known word or prototype that is not the class itself.

    Args:
        logits: [B, T, h, w], T >= 1 known words or prototypes, as for a softmax over T.
        own: [K, T] in [0, 1], how far word t means class k (``own_words``); 1 - own is how far it is a rival.
        level: [K] the logit that class k itself reaches among the words, whatever they mean (``known_level``): what no
            word reaches belongs to no rival.

    Returns:
        [B, K, h, w] in [0, 1].
    """
    scores = logits.float()[:, None]  # [B, 1, T, h, w]
    none = level.view(1, -1, 1, 1, 1).expand(len(scores), -1, 1, *scores.shape[3:])
    joined = torch.cat([scores.expand(-1, len(own), -1, -1, -1), none], 2)  # [B, K, T+1, h, w]
    return torch.einsum("bkthw,kt->bkhw", joined.softmax(2)[:, :, :-1], 1 - own.float())


def own_words(profiles: Tensor, *, share: float = 0.2) -> Tensor:
    """Which known words mean a class: those that its own supports' foreground is recognised as.

    Args:
        profiles: [K, T] mean probability of word t on the foreground of class k's supports.
        share: of the largest probability, from which a word is the class itself.

    Returns:
        [K, T] float32, 1 for own words, 0 for rivals. A class that nothing known looks like (a flat profile) owns many
        words, and few are left to suppress it.
    """
    return (profiles >= share * profiles.amax(1, keepdim=True)).float()


def known_level(logits: Tensor, weights: Tensor) -> Tensor:
    """The logit that a class's own foreground reaches: weighted mean of the best word, [M, T], [M] -> a scalar."""
    return (logits.float().amax(1) * weights).sum() / weights.sum().clamp_min(1e-12)
