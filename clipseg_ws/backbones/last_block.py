"""The last block's weights as one value: what CAM, dense maps and features need, whatever library holds them.

A pre-norm block with a class token in front of the patches, then the projection into the space of the texts:

    a = ln_1(x);  x = x + scale_1 out_proj(softmax(q k^T / sqrt d) v);  x = x + scale_2 fc2(activation(fc1(ln_2(x))))
    embedding = ln_post(x) @ projection

``LastBlockParts`` is what every family's last block answers; ``LastBlockWeights`` are those with the layout above,
whose gradient ``activations/last_block.py`` has by hand. All others (``tower.py``) go through autograd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.backbones.attention import attend, split_heads
from clipseg_ws.structures import LastAttention


class LastBlockParts(Protocol):
    """The last block of any family and what follows it. ``grid`` (h, w) is needed by rotary positions only.

    Rows [B, 1+N, D] are as in ``Tokens.last_input``: where the tower has no class token, row 0 is the mean patch, which
    takes no part in the attention, and what comes out of it means nothing.

    Attributes:
        heads: of the attention. class_token: row 0 is a key and a value for the patches.
    """

    @property
    def heads(self) -> int: ...
    @property
    def class_token(self) -> bool: ...

    def ln_1(self, x: Tensor) -> Tensor:
        """[..., D] -> the same shape, what enters the attention (of a post-norm block x itself)."""
        ...

    def qkv(self, a: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """a = ``ln_1(x)`` [B, L, D], patches last -> q, k, v, each [B, heads, L, d], positions turned in."""
        ...

    def attend(
        self, last_input: Tensor, total: Tensor | None = None, grid: tuple[int, int] | None = None
    ) -> LastAttention:
        """The block up to its attention, whose sum over the heads is added to ``total``. No gradient."""
        ...

    def project(self, x: Tensor) -> Tensor:
        """[B, heads, M, d] -> [B, M, D]: heads joined, all that follows before the residual stream."""
        ...

    def mlp(self, x: Tensor) -> Tensor:
        """x [B, M, D] between attention and MLP -> the block's output."""
        ...

    def forward(self, last_input: Tensor, a: Tensor | None = None, grid: tuple[int, int] | None = None) -> Tensor:
        """The block's output [B, L, D]; ``a`` replaces ``ln_1(last_input)`` (the residual stays as it is)."""
        ...

    def embed(self, x: Tensor) -> Tensor:
        """Tokens that leave the block [..., D] -> [..., E], each as if it alone were pooled; not normalised."""
        ...

    def pool(self, out: Tensor, how: str = "cls") -> Tensor:
        """The block's output [B, 1+N, D] -> [B, E] float32: "cls" as the model pools, "patch" the mean patch."""
        ...


@dataclass(frozen=True, eq=False)
class Norm:
    """A layer norm over the last axis: weight [D], bias [D], eps. It runs in the dtype of its weight."""

    weight: Tensor
    bias: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        """[..., D] -> the same shape and dtype."""
        return F.layer_norm(x.to(self.weight.dtype), self.weight.shape, self.weight, self.bias, self.eps).to(x.dtype)


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear layer: weight [out, in], bias [out] or None."""

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, eq=False)
class LastBlockWeights:
    """The weights themselves (never copies), and the pieces of the block that they compute. All is differentiable.

    Attributes:
        heads: number of attention heads.
        ln_1: before the attention. in_proj: [3D, D], q, k and v joined in that order. out_proj: [D, D].
        scale_1, scale_2: [D] layer scales behind attention and MLP, or None.
        ln_2: before the MLP. fc1: [4D, D]. activation: element by element. fc2: [D, 4D].
        ln_post: after the block. projection: [D, E]. projection_bias: [E], or None.
        pooling: "cls", by the class token, or "mean-then-norm", mean of the patches and then ``ln_post`` (CLIPA).
    """

    heads: int
    ln_1: Norm
    in_proj: Linear
    out_proj: Linear
    scale_1: Tensor | None
    ln_2: Norm
    fc1: Linear
    activation: Callable[[Tensor], Tensor]
    fc2: Linear
    scale_2: Tensor | None
    ln_post: Norm
    projection: Tensor
    projection_bias: Tensor | None = None
    pooling: str = "cls"

    @property
    def class_token(self) -> bool:
        """Row 0 is a key and a value for the patches."""
        return True

    def qkv(self, a: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """a = ``ln_1(x)`` [B, L, D] -> q, k, v, each [B, heads, L, d]."""
        return split_heads(self.in_proj(a), self.heads)

    @torch.no_grad()
    def attend(
        self, last_input: Tensor, total: Tensor | None = None, grid: tuple[int, int] | None = None
    ) -> LastAttention:
        """The block up to its attention, whose sum over the heads is added to ``total`` [B, L, L]. No gradient."""
        a = self.ln_1(last_input)
        q, k, v = self.qkv(a)
        context, probs = attend(q, k, v, total, keep=True)
        return LastAttention(a, q, k, v, probs, context)

    def project(self, x: Tensor) -> Tensor:
        """[B, heads, M, d] -> [B, M, D]: heads joined, ``out_proj`` and the layer scale."""
        return _scaled(self.out_proj(x.transpose(1, 2).flatten(2)), self.scale_1)

    def hidden(self, x: Tensor) -> Tensor:
        """x [B, M, D] between attention and MLP -> [B, M, 4D], the MLP before its activation."""
        return self.fc1(self.ln_2(x))

    def mlp(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """x [B, M, D] -> x + mlp(ln_2(x)), the block's output; ``hidden`` where it was computed before."""
        hidden = self.hidden(x) if hidden is None else hidden
        return x + _scaled(self.fc2(self.activation(hidden)), self.scale_2)

    def forward(self, last_input: Tensor, a: Tensor | None = None, grid: tuple[int, int] | None = None) -> Tensor:
        """The block's output [B, L, D]; ``a`` replaces ``ln_1(last_input)`` (the residual stays as it is)."""
        q, k, v = self.qkv(self.ln_1(last_input) if a is None else a)
        probs = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).float().softmax(-1)
        return self.mlp(last_input + self.project(probs.to(v.dtype) @ v))

    def embed(self, x: Tensor) -> Tensor:
        """Tokens that leave the block [..., D] -> [..., E]: ``ln_post`` and ``projection``, not normalised."""
        return self.projected(self.ln_post(x))

    def projected(self, x: Tensor) -> Tensor:
        """[..., D] behind ``ln_post`` -> [..., E], in x's dtype."""
        embedding = x @ self.projection.to(x.dtype)
        return embedding if self.projection_bias is None else embedding + self.projection_bias.to(x.dtype)

    def pool(self, out: Tensor, how: str = "cls") -> Tensor:
        """[B, 1+N, D] -> [B, E] float32: embedding of the class token ("cls") or mean over the patches ("patch")."""
        if self.pooling == "mean-then-norm":
            return self.embed(out[:, 1:].mean(1)).float()
        if how == "cls":
            return self.embed(out[:, 0]).float()
        return self.projected(self.ln_post(out[:, 1:]).float().mean(1))  # the projection is linear: mean first


def _scaled(x: Tensor, scale: Tensor | None) -> Tensor:
    """[..., D] times a layer scale, where the block has one."""
    return x if scale is None else x * scale
