"""From maps to labels: a background score, the arg-max, the smallest area that counts, and a confidence."""

from __future__ import annotations

import torch
from torch import Tensor

from clipseg_ws.activations.textscores import class_labels, drop_small_classes
from clipseg_ws.config import BACKGROUND_RULES


def with_background(
    maps: Tensor,
    rule: str = "power",
    *,
    alpha: float = 1.0,
    threshold: float = 0.4,
    background: Tensor | None = None,
) -> Tensor:
    """Put a background score in front of the class maps.

    Args:
        maps: [B, K, H, W] in [0, 1]; K may be 0.
        rule: "power", (1 - max_k map)^alpha (CLIP-ES); "constant", ``threshold`` everywhere; "prompts", the map
            ``background`` of the background words competes as it is.
        background: [B, H, W] in [0, 1], needed by "prompts".

    Returns:
        [B, 1+K, H, W], background first, dtype of ``maps``.

    Raises:
        ValueError: an unknown rule, alpha <= 0, a threshold outside [0, 1], or "prompts" without a map.
    """
    if rule not in BACKGROUND_RULES:
        raise ValueError(
            f"background rule {rule!r} is unknown; choose one of {', '.join(BACKGROUND_RULES)}, for example 'power'"
        )
    if rule == "power":
        if alpha <= 0:
            raise ValueError(f"alpha={alpha}; a positive exponent is needed, for example 1 or 2")
        best = maps.amax(1) if maps.shape[1] else maps.new_zeros(maps.shape[0], *maps.shape[2:])
        score = (1 - best).clamp_min(0) ** alpha
    elif rule == "constant":
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold}; a number in [0, 1] is needed, for example 0.4")
        score = maps.new_full((maps.shape[0], *maps.shape[2:]), threshold)
    else:
        if background is None:
            raise ValueError("rule 'prompts' needs background=[B, H, W], the score of the background words")
        score = background.to(maps.dtype)
    return torch.cat([score[:, None], maps], 1)


def label(scores: Tensor, *, min_area: float = 0.0) -> tuple[Tensor, Tensor]:
    """Arg-max over [background; classes]; the first of equal scores wins, so background wins ties.

    Args:
        scores: [B, 1+K, H, W] non-negative, background first.
        min_area: share of the picture, in [0, 1); a class that wins fewer pixels loses them to the next best score.

    Returns:
        labels [B, H, W] int64 in 0..K, and confidence [B, H, W] float32 in [0, 1]: the winner's share of the sum of
        all scores at that pixel.

    Raises:
        ValueError: ``min_area`` outside [0, 1).
    """
    if not 0 <= min_area < 1:
        raise ValueError(f"min_area={min_area}; a share of the picture in [0, 1) is needed, for example 0.005")
    scores = drop_small(scores, min_area)
    best, labels = scores.max(1)
    total = scores.float().sum(1)
    return labels, torch.where(total > 0, best.float() / total.clamp_min(1e-12), torch.zeros_like(total))


def drop_small(scores: Tensor, min_area: float) -> Tensor:
    """Scores [B, 1+K, h, w], zero for classes that win less than this share of the picture (never the background)."""
    if min_area <= 0:
        return scores
    labels = scores.argmax(1)
    counts = torch.stack([(labels == c).flatten(1).sum(1) for c in range(scores.shape[1])], 1)  # [B, 1+K]
    small = counts < min_area * labels[0].numel()
    small[:, 0] = False
    return scores.masked_fill(small[:, :, None, None], 0)


def label_words(probabilities: Tensor, threshold: float, area_threshold: float = 0.0) -> tuple[Tensor, Tensor]:
    """Arg-max over class probabilities as the dense zero-shot papers decide.

    Args:
        probabilities: [B, 1+C, H, W] in [0, 1], background first (0 where no word belongs to it).
        threshold: a pixel whose best probability is lower becomes background.
        area_threshold: share of the foreground below which a class is dropped first (SCLIP); 0 drops none.

    Returns:
        labels [B, H, W] int64 in 0..C, and confidence [B, H, W] float32: the winner's probability, and for pixels that
        fell below the threshold one minus it.
    """
    if area_threshold > 0:
        probabilities = drop_small_classes(probabilities, area_threshold)
    labels = class_labels(probabilities, threshold)
    best = probabilities.amax(1).float()
    return labels, torch.where((labels == 0) & (best < threshold), 1 - best, best)


def spread_labels(labels: Tensor, classes: Tensor) -> Tensor:
    """Labels among the kept classes -> labels in the whole vocabulary.

    Args:
        labels: [B, H, W] int64 in 0..K. classes: [B, K] 0-based vocabulary indices of the kept classes, -1 pads.

    Returns:
        Same shape: 0 stays background, k becomes ``classes[b, k - 1] + 1``.
    """
    table = torch.cat([classes.new_zeros(len(classes), 1), classes + 1], 1)
    return table.gather(1, labels.flatten(1)).view_as(labels)
