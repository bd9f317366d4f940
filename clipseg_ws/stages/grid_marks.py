"""Weak labels on the patch grid, for a whole batch: what every map may be, and where it is certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.weak.constraints import Constraints


@dataclass(frozen=True, eq=False)
class GridMarks:
    """What marks say of the maps [B, K, h, w] of a batch.

    Attributes:
        allow: [B, K, h, w] bool, cells of which any pixel may be the class. seeded: [B, K, h, w] bool, cells in which
            a fixed pixel of the class lies.
    """

    allow: Tensor
    seeded: Tensor

    def apply(self, maps: Tensor) -> Tensor:
        """The maps with nothing outside the boxes, 1 where a seed lies, 0 at others' seeds."""
        return torch.where(self.seeded, torch.ones_like(maps), maps * self.allow)


def grid_marks(marks: Sequence[Constraints], classes: Tensor, grid: tuple[int, int]) -> GridMarks:
    """The marks of B pictures for the maps of ``classes`` [B, K] (-1 pads) on ``grid``; pictures may differ in size.

    Raises ValueError where a box or a seed belongs to a class that is not among a picture's.
    """
    rows = [_one(mark, [c for c in row if c >= 0], grid) for mark, row in zip(marks, classes.tolist(), strict=True)]
    most = classes.shape[1]
    allow, seeded = (torch.stack([_padded(pair[part], most) for pair in rows]) for part in (0, 1))
    return GridMarks(allow, seeded)


def _one(mark: Constraints, classes: list[int], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """[K, h, w] bool each."""
    mine = mark.select(classes)
    if not classes:
        nothing = torch.zeros(0, *grid, dtype=torch.bool, device=mark.seed.device)
        return nothing, nothing
    allow = F.adaptive_max_pool2d(mine.allow[1:].float()[None], grid)[0] > 0
    labels = torch.arange(1, len(classes) + 1, device=mine.seed.device)[:, None, None]
    seeded = F.adaptive_max_pool2d((mine.seed[None] == labels).float()[None], grid)[0] > 0
    return allow, seeded


def _padded(cells: Tensor, count: int) -> Tensor:
    return F.pad(cells, (0, 0, 0, 0, 0, count - len(cells)))
