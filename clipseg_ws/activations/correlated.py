"""Attention between patches taken from several blocks, to be used in the last one instead of its own.

Intra-correlation (ExCEL, Yang et al., CVPR 2025): q-q, k-k and v-v attention of the last blocks. Residual
cross-correlation (ResCLIP, Yang et al., CVPR 2025, arXiv 2411.15851): q-k attention of middle blocks, which still
sees regions, mixed half and half with the last block's self-self attention:

    middle = cross_correlation(backbone, tokens)
    dense_embeddings(backbone, tokens, "naclip", mix=middle, mix_weight=0.5)

Both read the tokens that enter their blocks from ``Tokens.layers``: encode with ``keep_layers=needed_layers(blocks)``.
The class token is not kept there, so the softmax runs over patches; that equals the block's own attention with the
class token's column dropped and every row made to add up to 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.structures import Tokens


def middle_blocks(depth: int) -> tuple[int, ...]:
    """0-based indices of the middle third: blocks 6 to 9 (counted from 1) of 12, as in ResCLIP, and alike elsewhere."""
    first, last = round(depth * 5 / 12), round(depth * 9 / 12)
    first = min(max(first, 1), depth - 1)
    return tuple(range(first, max(last, first + 1)))


def last_blocks(depth: int, count: int = 5) -> tuple[int, ...]:
    """0-based indices of the last ``count`` blocks (ExCEL averages 5), never the first block."""
    return tuple(range(max(depth - count, 1), depth))


def needed_layers(blocks: Sequence[int], depth: int) -> tuple[int, ...]:
    """The ``keep_layers`` of ``encode`` whose output enters ``blocks`` (the last block's input is always there).

    Raises:
        ValueError: a block outside 1..depth-1 (the first block's input is not kept).
    """
    if not blocks or any(not 1 <= block < depth for block in blocks):
        raise ValueError(f"blocks={tuple(blocks)}; indices 1 to {depth - 1} are allowed, for example (5, 6, 7, 8)")
    return tuple(sorted({block - 1 for block in blocks if block != depth - 1}))


def cross_correlation(backbone: Backbone, tokens: Tokens, blocks: Sequence[int] | None = None) -> Tensor:
    """Mean q-k attention between patches [B, N, N] over heads and ``blocks`` (ResCLIP's middle ones by default)."""
    return _mean_attention(backbone, tokens, blocks or middle_blocks(backbone.depth), ("qk",))


def intra_correlation(backbone: Backbone, tokens: Tokens, blocks: Sequence[int] | None = None) -> Tensor:
    """Mean of q-q, k-k and v-v attention [B, N, N] over heads and ``blocks`` (the last five by default, ExCEL)."""
    return _mean_attention(backbone, tokens, blocks or last_blocks(backbone.depth), ("qq", "kk", "vv"))


def row_normalised(attention: Tensor) -> Tensor:
    """[B, N, N] non-negative, every row made to add up to 1 (``Tokens.attention`` lacks the class token's column)."""
    return attention / attention.sum(-1, keepdim=True).clamp_min(torch.finfo(attention.dtype).tiny)


def block_input(backbone: Backbone, tokens: Tokens, block: int) -> Tensor:
    """[B, N, D] patch tokens that enter ``block``. Raises ValueError where they were not kept."""
    if block == backbone.depth - 1:
        return tokens.last_input[:, 1:]
    if block - 1 not in tokens.layers:
        raise ValueError(
            f"the input of block {block} was not kept (kept: {sorted(tokens.layers)}); encode with "
            f"keep_layers=needed_layers(blocks, depth), for example keep_layers=({block - 1},)"
        )
    return tokens.layers[block - 1]


def _mean_attention(backbone: Backbone, tokens: Tokens, blocks: Sequence[int], pairs: tuple[str, ...]) -> Tensor:
    needed_layers(blocks, backbone.depth)  # checks the indices
    total: Tensor | None = None
    for block in blocks:
        entering = block_input(backbone, tokens, block)
        qkv = dict(zip("qkv", backbone.block_qkv(block, entering, tokens.grid), strict=True))
        for pair in pairs:  # one [B, heads, N, N] at a time
            left, right = qkv[pair[0]], qkv[pair[1]]
            scores = left @ right.transpose(-2, -1) * left.shape[-1] ** -0.5
            mean = scores.float().softmax(-1).mean(1)
            total = mean if total is None else total + mean
    assert total is not None
    return total / (len(blocks) * len(pairs))
