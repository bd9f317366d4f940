"""Any vision transformer on a grid, piece by piece: what a library's tower must answer, and its last block.

``openclip.py`` walks CLIP's own layout. Every other layout (rotary positions, norms inside, gated MLPs, post-norm
blocks, pooling by mean or by an attention head, no class token) is a ``Tower``: one adapter a library, whose pieces are
that library's own modules. Nothing is computed twice or patched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.backbones.attention import attend, explicit_is_faster
from clipseg_ws.backbones.last_block import LastBlockWeights
from clipseg_ws.structures import LastAttention


class TowerBlock(Protocol):
    """One block: x = x + project(softmax(q k^T / sqrt d) v), then x = mlp(x)."""

    heads: int

    def before(self, x: Tensor) -> Tensor:
        """[..., D] -> what enters the attention."""
        ...

    def qkv(self, a: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """a [B, L, D] -> q, k, v [B, heads, L, d]; ``rotation`` [N, 2d] turns the last N rows of q and k."""
        ...

    def project(self, context: Tensor) -> Tensor:
        """[B, heads, M, d] -> [B, M, D], all that the attention adds to the residual stream."""
        ...

    def mlp(self, x: Tensor) -> Tensor:
        """[B, M, D] -> the block's output: x and what the MLP adds."""
        ...


class Tower(Protocol):
    """A vision tower as its library holds it.

    Attributes:
        module: what is moved and cast. weight: one of its weights, for device and dtype. blocks: in order.
        patch_size, native_grid, width, embed_dim: as in ``protocol.Backbone``. class_tokens: 0 or 1, in front.
        pools_class_token: the embedding of a picture is that of its class token.
    """

    module: Any
    patch_size: int
    native_grid: tuple[int, int]
    width: int
    embed_dim: int
    class_tokens: int
    pools_class_token: bool

    @property
    def blocks(self) -> Sequence[TowerBlock]: ...
    @property
    def weight(self) -> Tensor: ...

    def start(self, pixels: Tensor, grid: tuple[int, int], how: str) -> Tensor:
        """[B, 3, H, W] -> [B, class_tokens + N, D] tokens that enter the first block, positions interpolated."""
        ...

    def rotation(self, grid: tuple[int, int]) -> Tensor | None:
        """Sines and cosines [N, 2d] of rotary positions, or None."""
        ...

    def pool(self, x: Tensor) -> Tensor:
        """Tokens that leave the last block [B, class_tokens + N, D] -> [B, E] as the library pools and projects."""
        ...

    def embed(self, x: Tensor) -> Tensor:
        """[M, D] -> [M, E]: each token as if it alone were pooled."""
        ...

    def plain(self) -> LastBlockWeights | None:
        """The last block as weights where it has CLIP's layout, so that its gradient is taken by hand."""
        ...


def run_block(block: TowerBlock, x: Tensor, rotation: Tensor | None, total: Tensor | None) -> Tensor:
    """[B, L, D] -> the same; the attention, summed over heads, is added to ``total`` [B, L, L]."""
    q, k, v = block.qkv(block.before(x), rotation)
    if total is None and not explicit_is_faster(v):
        context = F.scaled_dot_product_attention(q, k, v)
    else:
        (context,) = attend(q, k, v, total)
    return block.mlp(x + block.project(context))


@dataclass(frozen=True, eq=False)
class TowerLastBlock:
    """The last block of a tower, a ``last_block.LastBlockParts``.

    Without a class token row 0, the mean patch, has no part in the attention: zeros in ``context`` and ``probs``.
    """

    tower: Tower

    @property
    def block(self) -> TowerBlock:
        """The block itself."""
        return self.tower.blocks[-1]

    @property
    def heads(self) -> int:
        """Of the attention."""
        return self.block.heads

    @property
    def class_token(self) -> bool:
        """Row 0 is a key and a value for the patches."""
        return self.tower.class_tokens > 0

    def ln_1(self, x: Tensor) -> Tensor:
        """[..., D] -> the same shape, what enters the attention."""
        return self.block.before(x)

    def qkv(self, a: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """a [B, L, D], patches last -> q, k, v. Raises ValueError where rotary positions need the grid."""
        return self.block.qkv(a, _rotation(self.tower, grid))

    @torch.no_grad()
    def attend(
        self, last_input: Tensor, total: Tensor | None = None, grid: tuple[int, int] | None = None
    ) -> LastAttention:
        """See ``LastBlockParts``; ``total`` is [B, L, L] with a class token, else [B, N, N]."""
        a = self.ln_1(last_input)
        q, k, v = self.qkv(a, grid)
        first = self._first
        context, probs = attend(q[:, :, first:], k[:, :, first:], v[:, :, first:], total, keep=True)
        if first:  # an empty row for the mean patch
            context, probs = F.pad(context, (0, 0, first, 0)), F.pad(probs, (first, 0, first, 0))
        return LastAttention(a, q, k, v, probs, context)

    def project(self, x: Tensor) -> Tensor:
        """[B, heads, M, d] -> [B, M, D]."""
        return self.block.project(x)

    def mlp(self, x: Tensor) -> Tensor:
        """[B, M, D] -> the block's output."""
        return self.block.mlp(x)

    def forward(self, last_input: Tensor, a: Tensor | None = None, grid: tuple[int, int] | None = None) -> Tensor:
        """The block's output [B, 1+N, D]. Differentiable in ``a``."""
        first = self._first
        q, k, v = self.qkv(self.ln_1(last_input) if a is None else a, grid)
        context = F.scaled_dot_product_attention(q[:, :, first:], k[:, :, first:], v[:, :, first:])
        return self.mlp(last_input + self.project(F.pad(context, (0, 0, first, 0)) if first else context))

    def embed(self, x: Tensor) -> Tensor:
        """Tokens that leave the block [..., D] -> [..., E], each as if it alone were pooled."""
        return torch.unflatten(self.tower.embed(x.flatten(0, -2)), 0, x.shape[:-1])

    def pool(self, out: Tensor, how: str = "cls") -> Tensor:
        """[B, 1+N, D] -> [B, E] float32: as the library pools; the mean patch where "patch" is asked of a class token.

        A tower that pools by mean or by an attention head pools so in both.
        """
        if how == "patch" and self.tower.pools_class_token:
            return self.embed(out[:, 1:]).float().mean(1)
        return self.tower.pool(out[:, self._first :]).float()

    @property
    def _first(self) -> int:
        """The first row that is a token of the tower."""
        return 1 - self.tower.class_tokens


def _rotation(tower: Tower, grid: tuple[int, int] | None) -> Tensor | None:
    if grid is not None:
        return tower.rotation(grid)
    if tower.rotation(tower.native_grid) is not None:
        raise ValueError("this tower has rotary positions: the grid (h, w) of the tokens is needed")
    return None
