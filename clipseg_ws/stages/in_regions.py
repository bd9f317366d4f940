"""The step ``votes``: every region of a picture gets one answer, at whatever size the picture is decided."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipseg_ws.config import Config
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.regions.votes import region_votes
from clipseg_ws.stages.labels import label, spread_labels


def named_regions(scores: Tensor, pictures: Sequence[Picture], config: Config) -> Tensor:
    """Scores [B, C, H, W] of pictures of one size after the votes; as they are where none are configured."""
    votes = config.step("votes")
    if votes is None or not scores.shape[1]:
        return scores
    return region_votes(scores, _partitions(pictures, (scores.shape[2], scores.shape[3])).to(scores.device), **votes)


def crisp_regions(
    labels: Tensor, confidence: Tensor, scores: Tensor, classes: Tensor, pictures: Sequence[Picture], config: Config
) -> tuple[Tensor, Tensor]:
    """Labels and confidence [B, H, W] of large pictures with the answers of their regions drawn at full size.

    Args:
        scores: [B, 1+K, h, w] of the working size, after the votes. classes: [B, K] as ``spread_labels`` takes them.
    """
    if config.step("votes") is None:
        return labels, confidence
    small = _partitions(pictures, (scores.shape[2], scores.shape[3])).to(scores.device)
    own, sure = label(scores)
    own = spread_labels(own, classes).to(labels.dtype)
    for row, picture in enumerate(pictures):
        whole = torch.from_numpy(picture.regions.partition()).to(labels.device)
        count = len(picture.regions)
        here = small[row] >= 0
        said = labels.new_full((count + 1,), -1)  # the last is for pixels of no region
        said[small[row][here]] = own[row][here]
        certain = confidence.new_zeros(count + 1)
        certain[small[row][here]] = sure[row][here]
        index = torch.where(whole >= 0, whole, count)  # a region too small for the working size keeps its pixels
        found = said[index]
        labels[row] = torch.where(found >= 0, found, labels[row])
        confidence[row] = torch.where(found >= 0, certain[index], confidence[row])
    return labels, confidence


def _partitions(pictures: Sequence[Picture], size: tuple[int, int]) -> Tensor:
    """[B, h, w] int64: the region at the centre of every pixel of pictures shrunk to ``size``."""
    made = []
    for picture in pictures:
        whole = torch.from_numpy(picture.regions.partition())
        rows, columns = (
            ((torch.arange(n) + 0.5) * (m / n)).long().clamp_max(m - 1) for n, m in zip(size, whole.shape, strict=True)
        )
        made.append(whole[rows][:, columns].long())
    return torch.stack(made)
