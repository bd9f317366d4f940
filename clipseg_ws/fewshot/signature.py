"""One vector a picture, without labels: patches gathered by the channels that act as detectors (SBA, Xu et al., TIP
2019, arXiv 1804.01422).

The channels whose strength differs most from picture to picture are taken as detectors of things. Each weighs the
patches by where it fires; the weighted sums of all detectors, joined, are whitened and brought to unit length, so that
the dot product of two pictures says how alike their things are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-6


@dataclass(frozen=True, eq=False)
class Signature:
    """How a picture becomes a vector, learned from pictures without labels (``fit_signature``).

    Attributes:
        channels: [T] int64, the detectors. centre: [T D] mean of the joined sums. axes: [T D, E] whitening.
    """

    channels: Tensor
    centre: Tensor
    axes: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Unit vectors [B, E] float32 of features [B, D, h, w]."""
        return F.normalize((gathered(features, self.channels) - self.centre) @ self.axes, dim=-1)


def fit_signature(joined: Tensor, channels: Tensor, width: int) -> Signature:
    """Principal directions of M pictures' joined sums [M, T D], each brought to variance 1.

    Args:
        joined: of ``gathered``. channels: of ``detectors``, the same.
        width: E, at most; fewer where there are fewer pictures or directions that vary.

    Raises:
        ValueError: fewer than two pictures.
    """
    if len(joined) < 2:
        raise ValueError(f"{len(joined)} pictures; at least two are needed to tell what differs between them")
    centre = joined.mean(0)
    _, values, rows = torch.linalg.svd(joined - centre, full_matrices=False)
    kept = int((values > 1e-3 * values[0].clamp_min(_TINY)).sum())
    count = max(1, min(width, kept, len(joined) - 1))
    scale = values[:count].clamp_min(_TINY) / len(joined) ** 0.5
    return Signature(channels, centre, (rows[:count] / scale[:, None]).t().contiguous())


def strengths(features: Tensor) -> Tensor:
    """[B, D] how strongly every channel fires: the mean of its positive part over features [B, D, h, w]."""
    return features.float().clamp_min(0).flatten(2).mean(2)


def detectors(sums: Tensor, count: int) -> Tensor:
    """[T] the channels whose strength varies most over M pictures, ``sums`` [M, D]; the most varying first."""
    return sums.var(0, unbiased=False).topk(min(count, sums.shape[1])).indices


def gathered(features: Tensor, channels: Tensor) -> Tensor:
    """[B, T D]: for each detector the sum of the patches, weighted by (its map / its norm) ** 1/2, to unit length."""
    cells = features.float().flatten(2)  # [B, D, N]
    maps = cells[:, channels].clamp_min(0)
    weights = (maps / maps.norm(dim=2, keepdim=True).clamp_min(_TINY)).sqrt()
    return F.normalize(weights @ cells.transpose(1, 2), dim=-1).flatten(1)
