"""What heads in training answer for pictures, many at a time: for schemes that make new targets of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from clipseg_ws.heads.base import Head
from clipseg_ws.heads.data import HeadData, by_grid
from clipseg_ws.heads.objective import enlarge

BATCH = 16


@torch.no_grad()
def answers(
    heads: Sequence[Head], data: HeadData, size: Callable[[int], tuple[int, ...]], what: str
) -> Iterator[tuple[int, list[Tensor]]]:
    """Every picture's number with the probabilities [1+C, H, W] of each head, pictures of one grid after another.

    Args:
        heads: left in evaluation mode. size: number -> (H, W), equal for pictures of one grid. what: the progress
            bar's word.
    """
    device = next(heads[0].parameters()).device
    with tqdm(total=len(data.grids), desc=what, unit="img", delay=2, disable=None) as bar:
        for part in by_grid(range(len(data.grids)), data.grids, BATCH):
            features = data.batch(part, (0, part[0])).features.float().to(device)
            scores = [enlarge(head.eval()(features).logits, size(part[0])).softmax(1) for head in heads]
            for place, number in enumerate(part):
                yield number, [each[place] for each in scores]
            bar.update(len(part))
