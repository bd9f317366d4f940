"""Rounds of relabelling by the head: what it learned in common from all pictures expands and mends each one's mask.

After MCOF (Wang et al., CVPR 2018): the head, trained on the masks, relabels them; pixels it is sure of take its
label, among the classes of that picture's own mask; the next head learns from those.
"""

from __future__ import annotations

import numpy as np
import torch

from clipseg_ws.heads.answers import answers
from clipseg_ws.heads.base import Head
from clipseg_ws.heads.course import Course
from clipseg_ws.heads.data import HeadData, Retargeted, Targets
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.stored import is_sure, to_bytes
from clipseg_ws.structures import IGNORE


def merge_labels(
    labels: np.ndarray, confidence: np.ndarray, predicted: np.ndarray, certainty: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """The prediction where it is certain, else what was there. All [H, W]; labels uint8, confidence uint8 (255 = 1),
    certainty float in [0, 1]. Returns labels and confidence, uint8."""
    sure, level = is_sure(certainty, threshold), to_bytes(certainty)
    return np.where(sure, predicted, labels).astype(np.uint8), np.where(sure, level, confidence).astype(np.uint8)


def relabel(module: Head, data: HeadData, *, threshold: float = 0.8) -> Targets:
    """New targets of all pictures of ``data``; a picture gets no class that its mask did not have.

    Raises ValueError for a threshold outside (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold={threshold}; a number in (0, 1] is needed, for example 0.8")
    new: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for i, (scores,) in answers([module], data, lambda i: data.target(i)[0].shape, "relabel"):
        before, sure = data.target(i)
        allowed = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
        allowed[[0, *(int(c) for c in np.unique(before) if c != IGNORE)]] = True
        best, winner = scores.masked_fill(~allowed[:, None, None], 0).max(0)
        new[i] = merge_labels(before, sure, winner.cpu().numpy(), best.cpu().numpy(), threshold)
    return Targets([new[i][0] for i in range(len(new))], [new[i][1] for i in range(len(new))])


def fit_rounds(course: Course, *, rounds: int = 2, sure: float = 0.8) -> SegmentationHead:
    """Fit, relabel, fit anew, ``rounds`` times in all; with a folder a round has a folder of its own below it.

    Raises ValueError for less than one round, or ``sure`` outside (0, 1].
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds}; at least 1 is needed")
    head, data = course.head(), course.data
    for number in range(1, rounds + 1):
        course.learn(head, data, place=f"round-{number}")
        if number < rounds:
            data = Retargeted(data, relabel(head.module_, data, threshold=sure), made=("relabelled", number, sure))
    return head
