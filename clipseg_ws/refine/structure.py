"""Semantic structure of several blocks (SSA, Sun and Li, arXiv 2111.03392): which patches look alike, block by block.

The paper multiplies a map with the self-similarity of the features of every stage and fuses what comes out; nothing is
trained. Here the stages are blocks of the transformer, and the fused structure takes the place of, or joins, the mean
attention in the class-aware affinity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def block_structure(layers: Sequence[Tensor], *, sharpness: float = 2.0) -> Tensor:
    """Mean over the blocks of the rectified cosine between patches, every row a distribution.

    Args:
        layers: patch tokens [B, N, D] of the blocks, at least one. They are centred over the patches first: the part
            that all patches share says nothing about which belong together.
        sharpness: exponent of the similarity; larger values keep near look-alikes only.

    Returns:
        [B, N, N] float32, non-negative, rows sum to one; even where a block does not tell a patch from the mean.

    Raises:
        ValueError: no block, or a sharpness that is not positive.
    """
    if not layers or sharpness <= 0:
        raise ValueError(f"{len(layers)} blocks, sharpness={sharpness}; at least one block and a positive exponent")
    total: Tensor | None = None
    for tokens in layers:
        x = tokens.float()
        x = F.normalize(x - x.mean(1, keepdim=True), dim=-1)
        alike = (x @ x.transpose(1, 2)).clamp_min(0) ** sharpness
        row = alike.sum(-1, keepdim=True)  # at least 1, a patch is like itself; 0 where all patches are the same
        alike = torch.where(row > 0.5, alike / row.clamp_min(0.5), 1 / x.shape[1])
        total = alike if total is None else total + alike
    assert total is not None
    return total / len(layers)
