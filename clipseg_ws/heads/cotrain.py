"""Several heads teach each other on pictures without labels: what the others agree on is a head's target there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clipseg_ws.heads.answers import answers
from clipseg_ws.heads.base import Head
from clipseg_ws.heads.course import Course
from clipseg_ws.heads.data import HeadData, Joined, Retargeted, Targets
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.stored import is_sure, to_bytes, to_labels
from clipseg_ws.structures import IGNORE


def agreement(scores: Sequence[Tensor], threshold: float) -> tuple[Tensor, Tensor]:
    """Where teachers agree: each [B, K, H, W] -> labels [B, H, W] int64 (255 where arg-maxes differ or the mean
    probability of the winner, as it is stored, is below ``threshold``) and that mean probability [B, H, W]."""
    winners = torch.stack([s.argmax(1) for s in scores])
    best, labels = torch.stack(list(scores)).mean(0).max(1)
    agreed = (winners == labels).all(0) & is_sure(best, threshold)
    return labels.masked_fill(~agreed, IGNORE), best


def teach(teachers: Sequence[Head], data: HeadData, size: float, threshold: float) -> Targets:
    """Targets of unlabelled pictures by what the teachers agree on, at ``size`` times the patch grid."""
    new: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for i, scores in answers(teachers, data, lambda i: tuple(round(side * size) for side in data.grids[i]), "teach"):
        found, best = agreement([each[None] for each in scores], threshold)
        new[i] = (to_labels(found[0].cpu().numpy()), to_bytes(best[0].cpu().numpy().clip(0, 1)))
    return Targets([new[i][0] for i in range(len(new))], [new[i][1] for i in range(len(new))])


def cotrain(
    heads: Sequence[SegmentationHead], course: Course, *, rounds: int = 2, sure: float = 0.8
) -> list[SegmentationHead]:
    """Train every head on the labelled pictures, then ``rounds - 1`` times on both, taught by the others.

    Args:
        heads: at least two, of different kinds or seeds. course: with ``unlabelled``, whose targets are not read.
        sure: mean probability from which what the others agree on is a target.

    Raises:
        ValueError: fewer than two heads or one round, or no unlabelled pictures.
    """
    free, labelled = course.unlabelled, course.data
    if len(heads) < 2 or rounds < 1 or free is None:
        raise ValueError(
            f"{len(heads)} heads, {rounds} rounds; at least 2 heads, 1 round and unlabelled pictures are needed"
        )
    size = labelled.target(0)[0].shape[0] / labelled.grids[0][0]
    data: list[HeadData] = [labelled] * len(heads)
    for number in range(rounds):
        for k, head in enumerate(heads):
            course.learn(head, data[k], place=f"round-{number + 1}-head-{k + 1}")
        if number + 1 < rounds:
            modules = [head.module_ for head in heads]
            taught = [teach(modules[:k] + modules[k + 1 :], free, size, sure) for k in range(len(heads))]
            made = ("taught", number, sure, [head.get_params() for head in heads])
            data = [Joined([labelled, Retargeted(free, targets, (*made, k))]) for k, targets in enumerate(taught)]
    return list(heads)


def fit_pair(course: Course, *, rounds: int = 2, sure: float = 0.8) -> SegmentationHead:
    """Two heads of different seeds; the one that is better on the validation pictures. See ``cotrain``."""
    pair = cotrain([course.head(), course.head(1)], course, rounds=rounds, sure=sure)
    return max(pair, key=lambda head: head.best_miou_ or 0.0)
