"""Several heads teach each other on pictures without labels: what the others agree on is a head's target there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipseg_ws.heads.answers import answers
from clipseg_ws.heads.base import Head
from clipseg_ws.heads.data import HeadData, Joined, Retargeted, Targets
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.structures import IGNORE


def agreement(scores: Sequence[Tensor], threshold: float) -> tuple[Tensor, Tensor]:
    """Where teachers agree: each [B, K, H, W] -> labels [B, H, W] int64 (255 where arg-maxes differ or the mean
    probability of the winner is below ``threshold``) and that mean probability [B, H, W]."""
    winners = torch.stack([s.argmax(1) for s in scores])
    best, labels = torch.stack(list(scores)).mean(0).max(1)
    agreed = (winners == labels).all(0) & (best >= threshold)
    return labels.masked_fill(~agreed, IGNORE), best


def teach(teachers: Sequence[Head], data: HeadData, size: float, threshold: float) -> Targets:
    """Targets of unlabelled pictures by what the teachers agree on, at ``size`` times the patch grid."""
    new: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for i, scores in answers(teachers, data, lambda i: tuple(round(side * size) for side in data.grids[i]), "teach"):
        found, best = agreement([each[None] for each in scores], threshold)
        level = np.rint(best[0].cpu().numpy() * 255)
        new[i] = (found[0].cpu().numpy().astype(np.uint8), level.astype(np.uint8))
    return Targets([new[i][0] for i in range(len(new))], [new[i][1] for i in range(len(new))])


def cotrain(
    heads: Sequence[SegmentationHead], labelled: HeadData, unlabelled: HeadData, *, classes: Sequence[str],
    rounds: int = 2, threshold: float = 0.8, folder: str | Path | None = None, **fit: Any,
) -> list[SegmentationHead]:  # fmt: skip
    """Train every head on the labelled pictures, then ``rounds - 1`` times on both, taught by the others.

    Args:
        heads: at least two, of different kinds or seeds. unlabelled: its own targets are not read.
        fit: goes to every ``SegmentationHead.fit``.

    Raises:
        ValueError: fewer than two heads or one round.
    """
    if len(heads) < 2 or rounds < 1:
        raise ValueError(f"{len(heads)} heads, {rounds} rounds; at least 2 heads and 1 round are needed")
    size = labelled.target(0)[0].shape[0] / labelled.grids[0][0]
    data: list[HeadData] = [labelled] * len(heads)
    for number in range(rounds):
        for k, head in enumerate(heads):
            place = None if folder is None else Path(folder) / f"round-{number + 1}-head-{k + 1}"
            head.fit(data[k], classes=classes, folder=place, **fit)
        if number + 1 < rounds:
            modules = [head.module_ for head in heads]
            taught = [teach(modules[:k] + modules[k + 1 :], unlabelled, size, threshold) for k in range(len(heads))]
            data = [Joined([labelled, Retargeted(unlabelled, targets)]) for targets in taught]
    return list(heads)
