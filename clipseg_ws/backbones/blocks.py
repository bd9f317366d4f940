"""The attention of every one of the last blocks, where ``encode`` gives their mean only."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from clipseg_ws.backbones.protocol import Backbone


@torch.no_grad()
def block_attentions(backbone: Backbone, pixels: Tensor, count: int) -> Tensor:
    """[B, 3, H, W] -> [B, M, N, N] float32, mean over heads, class token's row and column dropped; last block last.

    The means over the last 1, 2, ... blocks that ``encode`` gives are taken apart: M passes, only public names.

    Args:
        count: number M of last blocks; a tower with fewer gives all it has.

    Raises:
        ValueError: ``count`` below 1.
    """
    if count < 1:
        raise ValueError(f"count={count}; at least 1 block is needed, for example 6")
    sums = []
    for blocks in range(1, min(count, backbone.depth) + 1):
        attention = backbone.encode(pixels, attention_blocks=blocks).attention
        assert attention is not None
        sums.append(attention.float() * blocks)
    single = [later - earlier for earlier, later in pairwise(sums)]
    return torch.stack([*reversed(single), sums[0]], 1).clamp_min(0)
