"""mIoU of a validation set during training: Σ intersection / Σ union a class over the whole set."""

from __future__ import annotations

import torch
from torch import Tensor

from clipseg_ws.heads.base import Head
from clipseg_ws.heads.data import HeadData, by_grid
from clipseg_ws.heads.objective import enlarge
from clipseg_ws.heads.workers import Alone
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


@torch.no_grad()
def evaluate(module: Head, data: HeadData, *, batch: int = 16, workers: Alone | None = None) -> float:
    """mIoU of a head's arg-max against the targets (255 left out), at the targets' size."""
    workers = workers or Alone(next(module.parameters()).device)
    module.eval()
    matrix = torch.zeros(module.labels, module.labels, dtype=torch.int64, device=workers.device)
    chunks = by_grid(range(len(data.grids)), data.grids, batch)
    for chunk in chunks[workers.rank :: workers.world]:
        part = data.batch(chunk, (0, 0)).to(workers.device)
        logits = enlarge(module(part.features.float()).logits, part.labels.shape[-2:])
        matrix += confusion(logits.argmax(1), part.labels, module.labels)
    return mean_iou(workers.sum(matrix))
