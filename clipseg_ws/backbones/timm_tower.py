"""timm's vision transformers inside open_clip (``TimmModel``): SigLIP, EVA, PE-Core, MobileCLIP-B, ViTamin, ...

Two classes of timm hold them all, ``VisionTransformer`` and ``Eva``. Norm, pooling and projection are run by timm's own
``norm`` and ``forward_head`` and open_clip's ``head``; attention and the order of a block are written here.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from clipseg_ws.backbones.attention import split_heads
from clipseg_ws.backbones.errors import NEAREST, UnsupportedBackbone
from clipseg_ws.backbones.last_block import LastBlockWeights, Linear, Norm
from clipseg_ws.backbones.positions import positions

_TRUNKS = ("VisionTransformer", "Eva")
_ATTENTIONS = ("Attention", "EvaAttention", "AttentionRope")
_PRE_NORM, _POST_NORM = ("Block", "EvaBlock"), ("EvaBlockPostNorm", "ResPostBlock")


class TimmBlock:
    """A ``tower.TowerBlock`` around timm's ``Block``, ``EvaBlock``, ``EvaBlockPostNorm`` or ``ResPostBlock``."""

    def __init__(self, block: Any) -> None:
        self.block, self.attn = block, block.attn
        self.heads = int(block.attn.num_heads)
        self.post_norm = type(block).__name__ in _POST_NORM

    def before(self, x: Tensor) -> Tensor:
        """[..., D] -> the same shape."""
        normed: Tensor = x if self.post_norm else self.block.norm1(x)
        return normed

    def qkv(self, a: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """a [B, L, D] -> q, k, v [B, heads, L, d], normed and turned as timm does."""
        attn = self.attn
        if getattr(attn, "qkv", None) is not None:
            q, k, v = split_heads(nn.functional.linear(a, attn.qkv.weight, joint_bias(attn)), self.heads)
        else:
            q, k, v = (
                torch.unflatten(part(a), 2, (self.heads, -1)).transpose(1, 2)
                for part in (attn.q_proj, attn.k_proj, attn.v_proj)
            )
        q, k = attn.q_norm(q), attn.k_norm(k)
        if rotation is None:
            return q, k, v
        half = bool(getattr(attn, "rotate_half", False))
        return turned(q, rotation, half).type_as(v), turned(k, rotation, half).type_as(v), v

    def project(self, context: Tensor) -> Tensor:
        """[B, heads, M, d] -> [B, M, D]."""
        x = self.attn.proj(self.attn.norm(context.transpose(1, 2).flatten(2)))
        return self._scaled(self.block.norm1(x) if self.post_norm else x, 1)

    def mlp(self, x: Tensor) -> Tensor:
        """[B, M, D] -> the block's output."""
        block = self.block
        return x + self._scaled(block.norm2(block.mlp(x)) if self.post_norm else block.mlp(block.norm2(x)), 2)

    def _scaled(self, x: Tensor, number: int) -> Tensor:
        gamma = scale_of(self.block, number)
        return x if gamma is None else x * gamma


class TimmTower:
    """A ``tower.Tower`` around open_clip's ``TimmModel``.

    Raises:
        UnsupportedBackbone: a trunk, block, attention or pooling that is not known to be a ViT on a grid.
    """

    def __init__(self, module: Any) -> None:
        _check(module)
        self.module, self.trunk = module, module.trunk
        trunk = self.trunk
        self.blocks = [TimmBlock(block) for block in trunk.blocks]
        self.class_tokens = int(trunk.num_prefix_tokens)
        self.native_grid = (int(trunk.patch_embed.grid_size[0]), int(trunk.patch_embed.grid_size[1]))
        self.patch_size = _patch_size(trunk.patch_embed)
        self.width = int(trunk.embed_dim)
        self.pools_class_token = trunk.attn_pool is None and trunk.global_pool == "token"
        self.embed_dim = _out_features(module)

    @property
    def weight(self) -> Tensor:
        """A weight of the first block."""
        weight: Tensor = next(self.trunk.blocks[0].parameters())
        return weight

    def start(self, pixels: Tensor, grid: tuple[int, int], how: str) -> Tensor:
        """[B, 3, H, W] -> [B, class_tokens + N, D]."""
        trunk = self.trunk
        x = self._patches(pixels)
        first = [] if trunk.cls_token is None else [trunk.cls_token.to(x.dtype).expand(len(x), -1, -1)]
        table = None
        if trunk.pos_embed is not None:
            inside = 0 if trunk.no_embed_class else self.class_tokens
            table = positions(trunk.pos_embed[0], self.native_grid, grid, how, inside).to(x.dtype)
        if table is not None and trunk.no_embed_class:
            x, table = x + table, None
        x = torch.cat([*first, x], 1)
        tokens: Tensor = trunk.norm_pre(x if table is None else x + table)
        return tokens

    def _patches(self, pixels: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, N, D], row by row; a hybrid stem runs its convolutions first."""
        embed = self.trunk.patch_embed
        if hasattr(embed, "backbone"):
            pixels = embed.backbone(pixels)
            pixels = pixels[-1] if isinstance(pixels, (list, tuple)) else pixels
        patches: Tensor = embed.proj(pixels).flatten(2).transpose(1, 2)
        return embed.norm(patches) if hasattr(embed, "norm") else patches

    def rotation(self, grid: tuple[int, int]) -> Tensor | None:
        """[N, 2d] float32 of the grid, scaled to the grid it was trained at as timm does for other sizes."""
        rope = getattr(self.trunk, "rope", None)
        if rope is None:
            return None
        if not hasattr(rope, "_use_cached_embed"):
            raise UnsupportedBackbone("rotary positions need a newer timm: pip install -U timm")
        free = copy.copy(rope)  # shares the frequencies; without timm's table for the native grid alone
        free._use_cached_embed = False
        turns: Tensor = free.get_embed(shape=list(grid))
        return turns

    def pool(self, x: Tensor) -> Tensor:
        """[B, class_tokens + N, D] -> [B, E], timm's own head."""
        embedding: Tensor = self.module.head(self.trunk.forward_head(self.trunk.norm(x)))
        return embedding

    def embed(self, x: Tensor) -> Tensor:
        """[M, D] -> [M, E]: a sequence of one token through timm's own head."""
        return self.pool(x[:, None].expand(-1, 1 + self.class_tokens, -1))

    def plain(self) -> LastBlockWeights | None:
        """CLIP's layout: pre-norm, a plain MLP, no rotation, pooled by the class token."""
        return _plain_weights(self)


def turned(x: Tensor, rotation: Tensor, half: bool) -> Tensor:
    """Rotary positions on the last N rows of [B, heads, L, d]; the rows before them are no patches."""
    from timm.layers.pos_embed_sincos import apply_rot_embed_cat

    first = x.shape[2] - rotation.shape[0]
    patches = apply_rot_embed_cat(x[:, :, first:], rotation, half=half)
    return torch.cat([x[:, :, :first], patches], 2)


def joint_bias(attn: Any) -> Tensor | None:
    """[3D] bias of q, k and v, or None; EVA's k has none, a row of zeros."""
    if getattr(attn, "q_bias", None) is None:
        bias: Tensor | None = attn.qkv.bias
        return bias
    return torch.cat([attn.q_bias, attn.k_bias, attn.v_bias])


def scale_of(block: Any, number: int) -> Tensor | None:
    """[D] layer scale behind the attention (1) or the MLP (2), or None."""
    gamma: Tensor | None = getattr(block, f"gamma_{number}", None)
    return getattr(getattr(block, f"ls{number}", None), "gamma", None) if gamma is None else gamma


def _plain_weights(tower: TimmTower) -> LastBlockWeights | None:
    trunk, block = tower.trunk, tower.blocks[-1].block
    mlp, attn = block.mlp, block.attn
    inside = (attn.norm, attn.q_norm, attn.k_norm, getattr(mlp, "norm", None), trunk.fc_norm)
    norms = (block.norm1, block.norm2, trunk.norm)
    plain = (
        type(block).__name__ in _PRE_NORM and type(mlp).__name__ == "Mlp" and getattr(trunk, "rope", None) is None
        and tower.class_tokens == 1 and tower.pools_class_token and getattr(attn, "qkv", None) is not None
        and all(isinstance(norm, nn.Identity) for norm in inside) and all(isinstance(n, nn.LayerNorm) for n in norms)
        and isinstance(trunk.head, nn.Linear) and len(tower.module.head) == 0
    )  # fmt: skip
    if not plain:
        return None
    return LastBlockWeights(
        heads=tower.blocks[-1].heads,
        ln_1=_norm(block.norm1),
        in_proj=Linear(attn.qkv.weight, joint_bias(attn)),
        out_proj=Linear(attn.proj.weight, attn.proj.bias),
        scale_1=scale_of(block, 1),
        ln_2=_norm(block.norm2),
        fc1=Linear(mlp.fc1.weight, mlp.fc1.bias),
        activation=mlp.act,
        fc2=Linear(mlp.fc2.weight, mlp.fc2.bias),
        scale_2=scale_of(block, 2),
        ln_post=_norm(trunk.norm),
        projection=trunk.head.weight.t(),
        projection_bias=trunk.head.bias,
    )


def _norm(module: nn.LayerNorm) -> Norm:
    return Norm(module.weight, module.bias, module.eps)


def _patch_size(embed: Any) -> int:
    """Side in pixels of one place of the grid."""
    if hasattr(embed, "backbone"):  # a stem of convolutions: whatever its strides make
        return int(embed.img_size[0]) // int(embed.grid_size[0])
    return int(embed.patch_size[0])


def _out_features(module: Any) -> int:
    """E: of open_clip's projection, else of timm's head, else what the trunk pools."""
    for layer in (getattr(module.head, "proj", None), module.trunk.head):
        if isinstance(layer, nn.Linear):
            return int(layer.out_features)
    return int(module.trunk.num_features)


def _check(module: Any) -> None:
    """Raise UnsupportedBackbone for what is no ViT on a grid as this file knows it."""
    trunk = module.trunk
    reason = _odd_trunk(trunk) or next(filter(None, (_odd_block(block) for block in trunk.blocks)), None)
    if reason is None and "pool" in dict(module.head.named_children()):
        reason = "open_clip pools its feature map by attention of its own"
    if reason:
        raise UnsupportedBackbone(f"this model cannot be used: {reason}; {NEAREST}")


def _odd_trunk(trunk: Any) -> str | None:
    if type(trunk).__name__ not in _TRUNKS:
        return f"its vision tower is timm's {type(trunk).__name__}, not known to be a ViT on a grid"
    pooler = getattr(trunk, "attn_pool", None)
    if trunk.num_prefix_tokens > 1:
        return f"its vision tower has {trunk.num_prefix_tokens} tokens before the patches (registers)"
    if getattr(trunk, "rope_mixed", False):
        return "its rotary positions differ from block to block"
    if pooler is not None and (type(pooler).__name__ != "AttentionPoolLatent" or pooler.pos_embed is not None):
        return f"its pooling head is a {type(pooler).__name__} with positions of its own"
    if pooler is None and trunk.global_pool not in ("token", "avg"):
        return f"its vision tower pools by {trunk.global_pool!r}"
    return None


def _odd_block(block: Any) -> str | None:
    attn = getattr(block, "attn", None)
    if type(block).__name__ not in _PRE_NORM + _POST_NORM or type(attn).__name__ not in _ATTENTIONS:
        return f"its blocks are timm's {type(block).__name__} with {type(attn).__name__}"
    if getattr(attn, "gate", None) is not None or getattr(attn, "num_kv_groups", 1) > 1:
        return "its attention is gated or shares keys between heads"
    return None
