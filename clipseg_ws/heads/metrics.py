"""mIoU of a validation set during training: Σ intersection / Σ union a class over the whole set."""

from __future__ import annotations

import torch
from torch import Tensor

from clipseg_ws.structures import IGNORE


def confusion(predicted: Tensor, truth: Tensor, count: int) -> Tensor:
    """[K, K] int64, truth in rows; pixels with truth 255 are left out. Both label maps have one shape."""
    kept = truth != IGNORE
    return torch.bincount(truth[kept].long() * count + predicted[kept].long(), minlength=count * count).reshape(
        count, count
    )


def mean_iou(matrix: Tensor) -> float:
    """Mean over the classes that occur in truth or prediction; nan for an empty matrix."""
    both = matrix.diagonal().double()
    union = matrix.sum(0).double() + matrix.sum(1).double() - both
    return float((both / union)[union > 0].mean()) if bool((union > 0).any()) else float("nan")
