"""Dense prior: for every query cell the largest cosine with any foreground cell of a support (PFENet, Tian et al.,
TPAMI 2020, arXiv 2008.01449). The paper's min-max over each map is left out, so that it competes with prototypes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def nearest_cosine(query: Tensor, cells: Tensor, *, chunk: int = 4096) -> Tensor:
    """The largest cosine of every query cell with any of the given cells.

    Args:
        query: [B, D, h, w]. cells: [M, D], the cells to be near to, for example all foreground cells of a class; a zero
            vector, such as a masked one, has the cosine 0.
        chunk: cells compared at a time, for the memory's sake.

    Returns:
        [B, h, w] float32 in [-1, 1]; -1 where there are no cells.
    """
    asked = F.normalize(query.float().flatten(2), dim=1)  # [B, D, N]
    best = asked.new_full((asked.shape[0], asked.shape[2]), -1.0)
    for part in torch.split(F.normalize(cells.float(), dim=-1), chunk):
        if len(part):
            best = torch.maximum(best, (part @ asked).amax(1))
    return torch.unflatten(best, 1, query.shape[2:])
