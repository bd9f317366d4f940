"""Forward pass of the last block, kept for its gradient (``gradient.py``)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.backbones.last_block import LastBlockWeights
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.structures import LastAttention


@dataclass(frozen=True, eq=False)
class LastBlock:
    """The last block's forward pass, kept for the gradient.

    Attributes:
        attention: up to the attention; its ``a`` [B, L, D] are the GradCAM activations, L = 1 + N, class token first.
        middle: [B, L, D] residual stream between attention and MLP. hidden: [B, L, 4D] the MLP before its activation;
            None where the gradient is left to autograd.
        out: [B, L, D] the block's output. last_input: [B, L, D] what entered it. grid: (h, w), None where not known.
    """

    attention: LastAttention
    middle: Tensor
    hidden: Tensor | None
    out: Tensor
    last_input: Tensor
    grid: tuple[int, int] | None = None


@torch.no_grad()
def forward_last_block(
    backbone: Backbone, last_input: Tensor, last: LastAttention | None = None, grid: tuple[int, int] | None = None
) -> LastBlock:
    """Run the last block on [B, 1+N, D] and keep what the gradient needs.

    Args:
        last: ``Tokens.last``, if there. grid: ``Tokens.grid``; needed where positions are rotary and ``last`` is not
            there.
    """
    weights = backbone.last_block
    attention = weights.attend(last_input, None, grid) if last is None else last
    middle = last_input + weights.project(attention.context)
    if not isinstance(weights, LastBlockWeights):
        return LastBlock(attention, middle, None, weights.mlp(middle), last_input, grid)
    hidden = weights.hidden(middle)
    return LastBlock(attention, middle, hidden, weights.mlp(middle, hidden), last_input, grid)


def pool_embedding(backbone: Backbone, out: Tensor, pool: str) -> Tensor:
    """[B, 1+N, D] -> [B, E] float32: as the model pools ("cls") or mean over the patches ("patch")."""
    return backbone.last_block.pool(out, pool)


def normalize(embedding: Tensor) -> Tensor:
    """Unit length over the last axis."""
    return F.normalize(embedding, dim=-1)
