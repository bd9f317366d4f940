"""Names for regions: every region gets one answer, from the scores of its pixels.

A pixel answers as the smallest region that holds it; pixels outside of all regions answer for themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from clipseg_ws.regions.region_set import RegionSet

WAYS = ("mean", "majority")


@dataclass(frozen=True, eq=False)
class RegionAnswers:
    """What the regions of one picture were decided to be; in ``Segmentation.extras["regions"]``.

    Attributes:
        regions: the n regions. labels: [n] whole numbers, 0 background, as in ``Segmentation.labels``; the label that
            most pixels of the region have in the answer (with marks single pixels may differ), -1 for a region that
            other ones cover.
        confidence: [n] float32 in [0, 1], mean over these pixels. areas: [n] pixels that answer as the region does.
    """

    regions: RegionSet
    labels: NDArray[np.int64]
    confidence: NDArray[np.float32]
    areas: NDArray[np.int64]


def region_votes(scores: Tensor, partition: Tensor, *, by: str = "mean") -> Tensor:
    """Scores that are equal all over a region.

    Args:
        scores: [B, C, H, W] non-negative floating point. partition: [B, H, W] int64 region of every pixel, -1 for none.
        by: "mean", the mean of the scores, or "majority", each class's share of the pixels where it is the best.

    Returns:
        [B, C, H, W] in the dtype of ``scores``; pixels of no region keep theirs.

    Raises:
        ValueError: another ``by``, shapes that do not fit.

    Example:
        >>> scores = torch.tensor([[[[0.9, 0.4, 0.2]], [[0.1, 0.6, 0.8]]]])
        >>> region_votes(scores, torch.tensor([[[0, 0, -1]]])).argmax(1).tolist()
        [[[0, 0, 1]]]
    """
    if by not in WAYS:
        raise ValueError(f"votes by {by!r} are unknown; choose one of {', '.join(WAYS)}, for example 'mean'")
    if partition.shape != (scores.shape[0], *scores.shape[2:]):
        raise ValueError(f"regions {list(partition.shape)} do not fit the scores {list(scores.shape)}")
    return torch.stack([_voted(s, p, by) for s, p in zip(scores, partition.to(scores.device), strict=True)])


def _voted(scores: Tensor, partition: Tensor, by: str) -> Tensor:
    """One picture's."""
    inside = partition >= 0
    if not scores.shape[0] or not inside.any():
        return scores
    own = partition.clamp_min(0).flatten()
    count = int(own.max()) + 1
    weights = inside.flatten().float()
    flat = scores.float().flatten(1)  # [C, H*W]
    if by == "majority":
        flat = F.one_hot(flat.argmax(0), len(flat)).t().float()
    sums = flat.new_zeros(len(flat), count).index_add_(1, own, flat * weights)
    areas = weights.new_zeros(count).index_add_(0, own, weights)
    means = (sums / areas.clamp_min(1))[:, own].view_as(scores)
    return torch.where(inside, means.to(scores.dtype), scores)


def answers_of(
    regions: RegionSet, labels: NDArray[np.integer], confidence: NDArray[np.float32]
) -> RegionAnswers:
    """Label, confidence and area of every region in an answer, labels and confidence [H, W] at the regions' size."""
    regions.checked((labels.shape[0], labels.shape[1]))
    partition = regions.partition().ravel()
    inside = partition >= 0
    own, said = partition[inside].astype(np.int64), labels.ravel()[inside].astype(np.int64)
    count, most = len(regions), int(said.max(initial=0)) + 1
    areas = np.bincount(own, minlength=count)
    codes, pixels = np.unique(own * most + said, return_counts=True)
    found = np.full(count, -1, np.int64)
    order = np.lexsort((-(codes % most), pixels))  # the most pixels last; of equal ones the smallest label
    found[codes[order] // most] = codes[order] % most
    sure = np.bincount(own, confidence.ravel()[inside], count) / np.maximum(areas, 1)
    return RegionAnswers(regions, found, sure.astype(np.float32), areas)
