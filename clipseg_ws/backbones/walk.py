"""One residual block of open_clip: its forward pass without hooks, and its weights as a value.

A block is read through ``ln_1``, ``attn.in_proj_weight``, ``attn.in_proj_bias``, ``attn.out_proj``,
``attn.num_heads``, ``ls_1``, ``ln_2``, ``mlp`` and ``ls_2``; both of open_clip's released block classes have them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipseg_ws.backbones.attention import attend, explicit_is_faster, keep_heads_apart, split_heads
from clipseg_ws.backbones.last_block import LastBlockWeights, Linear, Norm

RunBlock = Callable[[Any, Tensor, Tensor | None], Tensor]


def block_qkv(block: Any, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a = ``ln_1(x)`` [B, L, D] -> q, k, v, each [B, heads, L, d]."""
    return split_heads(F.linear(a, block.attn.in_proj_weight, block.attn.in_proj_bias), block.attn.num_heads)


def forward_block(block: Any, x: Tensor, total: Tensor | None) -> Tensor:
    """One pre-norm block: [B, L, D] -> the same; its attention, summed over heads, is added to ``total`` [B, L, L]."""
    q, k, v = block_qkv(block, block.ln_1(x))
    if total is None and not explicit_is_faster(v):
        context = F.scaled_dot_product_attention(q, k, v)
    else:
        (context,) = attend(q, k, v, total)
    x = x + block.ls_1(block.attn.out_proj(context.transpose(1, 2).flatten(2)))
    after: Tensor = x + block.ls_2(block.mlp(block.ln_2(x)))
    return after


@cache
def compiled_block() -> RunBlock:
    """``forward_block`` through torch.compile, once for all blocks and Segmenters of the process."""
    keep_heads_apart()
    return torch.compile(forward_block)


def last_block_weights(visual: Any) -> LastBlockWeights:
    """Of an open_clip vision tower with the CLIP layout (``layout.check_layout``)."""
    block = visual.transformer.resblocks[-1]
    return LastBlockWeights(
        heads=int(block.attn.num_heads),
        ln_1=_norm(block.ln_1),
        in_proj=Linear(block.attn.in_proj_weight, block.attn.in_proj_bias),
        out_proj=_linear(block.attn.out_proj),
        scale_1=getattr(block.ls_1, "gamma", None),
        ln_2=_norm(block.ln_2),
        fc1=_linear(block.mlp.c_fc),
        activation=block.mlp.gelu,
        fc2=_linear(block.mlp.c_proj),
        scale_2=getattr(block.ls_2, "gamma", None),
        ln_post=_norm(visual.ln_post),
        projection=visual.proj,
    )


def _norm(module: nn.LayerNorm) -> Norm:
    return Norm(module.weight, module.bias, module.eps)


def _linear(module: nn.Linear) -> Linear:
    return Linear(module.weight, module.bias)
