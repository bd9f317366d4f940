"""open_clip's own vision transformer where it pools by mean (CLIPA) or by an attention head (CoCa)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipseg_ws.backbones.errors import NEAREST, UnsupportedBackbone
from clipseg_ws.backbones.last_block import LastBlockWeights
from clipseg_ws.backbones.layout import plain_blocks
from clipseg_ws.backbones.positions import positions
from clipseg_ws.backbones.walk import block_qkv, last_block_weights


class OwnBlock:
    """A ``tower.TowerBlock`` around open_clip's residual block."""

    def __init__(self, block: Any) -> None:
        self.block, self.heads = block, int(block.attn.num_heads)

    def before(self, x: Tensor) -> Tensor:
        """[..., D] -> the same shape."""
        normed: Tensor = self.block.ln_1(x)
        return normed

    def qkv(self, a: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """a [B, L, D] -> q, k, v [B, heads, L, d]."""
        return block_qkv(self.block, a)

    def project(self, context: Tensor) -> Tensor:
        """[B, heads, M, d] -> [B, M, D]."""
        joined: Tensor = self.block.ls_1(self.block.attn.out_proj(context.transpose(1, 2).flatten(2)))
        return joined

    def mlp(self, x: Tensor) -> Tensor:
        """[B, M, D] -> the block's output."""
        after: Tensor = x + self.block.ls_2(self.block.mlp(self.block.ln_2(x)))
        return after


class OwnTower:
    """A ``tower.Tower`` around ``open_clip.transformer.VisionTransformer``.

    Raises:
        UnsupportedBackbone: no such tower, blocks with norms or scales inside, or a pooling that open_clip itself calls
            unfinished.
    """

    pools_class_token = False

    def __init__(self, visual: Any) -> None:
        _check(visual)
        self.module = visual
        self.blocks = [OwnBlock(block) for block in visual.transformer.resblocks]
        self.patch_size = int(visual.patch_size[0])
        self.native_grid = (int(visual.grid_size[0]), int(visual.grid_size[1]))
        self.width = int(visual.positional_embedding.shape[1])
        self.embed_dim = int(visual.proj.shape[1])
        self.class_tokens = 1
        self.pools_class_token = visual.attn_pool is None and visual.pool_type == "tok"

    @property
    def weight(self) -> Tensor:
        """The projection."""
        weight: Tensor = self.module.proj
        return weight

    def start(self, pixels: Tensor, grid: tuple[int, int], how: str) -> Tensor:
        """[B, 3, H, W] -> [B, 1+N, D]."""
        visual = self.module
        x = visual.conv1(pixels).flatten(2).transpose(1, 2)  # [B, D, h, w] -> [B, N, D], row by row
        first = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
        table = positions(visual.positional_embedding, self.native_grid, grid, how)
        tokens: Tensor = visual.ln_pre(torch.cat([first, x], 1) + table.to(x.dtype))
        return tokens

    def rotation(self, grid: tuple[int, int]) -> Tensor | None:
        """None."""
        return None

    def pool(self, x: Tensor) -> Tensor:
        """[B, 1+N, D] -> [B, E] as open_clip pools; CoCa's first query is its picture's."""
        visual = self.module
        if visual.attn_pool is not None:
            x = visual.attn_pool(x)
        if visual.final_ln_after_pool and visual.attn_pool is None:
            pooled = visual.ln_post(self._middle(x))
        else:
            pooled = self._middle(visual.ln_post(x))
        embedding: Tensor = pooled @ visual.proj
        return embedding

    def embed(self, x: Tensor) -> Tensor:
        """[M, D] -> [M, E]: each token alone; of one token every query takes the value."""
        visual = self.module
        if visual.attn_pool is not None:
            x = sole_value(visual.attn_pool.attn, visual.attn_pool.ln_k(x))
        embedding: Tensor = visual.ln_post(x) @ visual.proj
        return embedding

    def plain(self) -> LastBlockWeights | None:
        """CLIP's layout: the mean of the patches first and one norm behind it, or a norm of each first."""
        visual = self.module
        if visual.attn_pool is not None or not (self.pools_class_token or visual.final_ln_after_pool):
            return None
        weights = last_block_weights(visual)
        return weights if self.pools_class_token else replace(weights, pooling="mean-then-norm")

    def _middle(self, x: Tensor) -> Tensor:
        mean: Tensor = x[:, 1:].mean(1) if self.module.pool_type == "avg" else x[:, 0]
        return mean


def sole_value(attn: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """[M, K] -> [M, D]: what attention gives where x is the only key, the value path."""
    weight = attn.v_proj_weight if attn.in_proj_weight is None else attn.in_proj_weight.chunk(3)[2]
    bias = None if attn.in_proj_bias is None else attn.in_proj_bias.chunk(3)[2]
    value: Tensor = attn.out_proj(F.linear(x, weight, bias))
    return value


def _check(visual: Any) -> None:
    """Raise UnsupportedBackbone for another tower."""
    reason = None
    if getattr(getattr(visual, "transformer", None), "resblocks", None) is None:
        reason = f"its vision tower is a {type(visual).__name__}, which has no attention between patches"
    elif not plain_blocks(visual):
        reason = "its blocks use normalised, cosine or scaled attention or a norm inside the MLP"
    elif getattr(visual, "attn_pool_contrastive", None) is not None:
        reason = "its vision tower pools twice by attention, which open_clip itself calls untested"
    elif visual.pool_type not in ("tok", "avg") or not isinstance(visual.proj, nn.Parameter):
        reason = f"its vision tower pools by {visual.pool_type!r} or has no linear projection"
    if reason:
        raise UnsupportedBackbone(f"this model cannot be used: {reason}; {NEAREST}")
