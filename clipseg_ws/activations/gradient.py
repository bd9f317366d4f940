"""Mean gradient of the last block, for all classes at once and without autograd.

Softmax-GradCAM needs only the *mean over patches* of d prob / d a, where a is the output of the last block's ``ln_1``.
That mean commutes with the input projections, so no gradient of the size [N, D] is projected back and no N x N
matrix is made per class:

    sum_p dq_p = s * sum_n C_n k_n      C_n = sum over patches m of dA[m, n]        (column sums only)
    sum_p dk_p = -s * sum_m dA[m, cls] q_m           rows of dA sum to zero, so only the class column is left
    sum_p dv_p = sum_m (1 - P[m, cls]) do_m          rows of the attention P sum to one

with dA[m, n] = P[m, n] (do_m . v_n - do_m . o_m). The gradient that enters the block differs between patches only
through ``ln_post``: d_out[m] = inv_m (u - dot_m hat_m) with one vector u a class and hat, inv of the normalisation.
So the MLP's second layer is crossed with one vector a class and, once for all classes, with hat. What is left per
class is one product with the MLP's first layer, one with ``out_proj`` and P^T do. The result equals autograd's
(tests/activations/test_last_block.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from clipseg_ws.activations.last_block import LastBlock
from clipseg_ws.backbones.last_block import LastBlockWeights, Norm
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.structures import LastAttention

LANES = 8  # pictures x classes that go back together: bounds the memory, not the result
CARD_LANES = 64  # the same on a GPU, whose launches cost more than its memory


def mean_pooled_gradient(backbone: Backbone, block: LastBlock, d_embedding: Tensor, pool: str) -> Tensor:
    """Mean over the patches of d objective / d a for objectives on the pooled embedding, the residual held fixed.

    By hand where the last block has the layout of ``LastBlockWeights``, else by autograd, one backward pass a class.

    Args:
        d_embedding: [K, B, E] gradient with respect to the pooled (not normalised) embedding. pool: "patch" or "cls".

    Returns:
        [K, B, D] in the block's dtype.
    """
    if isinstance(backbone.last_block, LastBlockWeights):
        return mean_gradient(backbone, block, pooled_gradient(backbone, block, d_embedding, pool))
    return autograd_mean_gradient(backbone, block, d_embedding, pool)


def autograd_mean_gradient(backbone: Backbone, block: LastBlock, d_embedding: Tensor, pool: str) -> Tensor:
    """``mean_pooled_gradient`` of any last block: memory of one forward pass, time of K backward passes."""
    last = backbone.last_block
    with torch.enable_grad():
        a = block.attention.a.detach().requires_grad_()
        feature = last.pool(last.forward(block.last_input, a, block.grid), pool)
    gradients = [torch.autograd.grad(feature, a, d.to(feature.dtype), retain_graph=True)[0] for d in d_embedding]
    return torch.stack([gradient[:, 1:].mean(1) for gradient in gradients])


@dataclass(frozen=True, eq=False)
class PooledGradient:
    """Gradient at the block's output of K objectives on the pooled embedding: inv (vectors - dots hat) at M tokens.

    Attributes:
        first: index of the first of the M tokens (1 for the patches, 0 with M = 1 for the class token).
        vectors: [K, B, D]. dots: [K, B, M]. hat: [B, M, D]. inv: [B, M, 1]. All in the block's dtype.
    """

    first: int
    vectors: Tensor
    dots: Tensor
    hat: Tensor
    inv: Tensor

    def lanes(self) -> list[PooledGradient]:
        """The same in groups of at most ``LANES`` pictures x classes (``CARD_LANES`` on a GPU)."""
        most = LANES if self.vectors.device.type == "cpu" else CARD_LANES
        size = max(1, most // max(1, self.vectors.shape[1]))
        pairs = zip(torch.split(self.vectors, size), torch.split(self.dots, size), strict=True)
        return [PooledGradient(self.first, vectors, dots, self.hat, self.inv) for vectors, dots in pairs]

    def expand(self) -> Tensor:
        """[K, B, M, D], written out."""
        return (self.vectors[:, :, None] - self.dots[..., None] * self.hat) * self.inv


def pooled_gradient(backbone: Backbone, block: LastBlock, d_embedding: Tensor, pool: str) -> PooledGradient:
    """Gradient at ``block.out`` of objectives on the pooled embedding.

    Args:
        d_embedding: [K, B, E] gradient with respect to the pooled (not normalised) embedding.
        pool: "patch" (mean over the patch tokens) or "cls".
    """
    last, dtype = _by_hand(backbone), block.out.dtype
    one_norm = last.pooling == "mean-then-norm"
    first, rows = (0, block.out[:, :1]) if pool == "cls" and not one_norm else (1, block.out[:, 1:])
    norm = last.ln_post
    hat, inv = normalised(norm, rows.mean(1, keepdim=True) if one_norm else rows)
    hat, inv = hat.expand(-1, rows.shape[1], -1), inv.expand(-1, rows.shape[1], -1)  # one norm: alike for all patches
    vectors = d_embedding @ last.projection.t().to(d_embedding.dtype) / rows.shape[1]  # [K, B, D]
    vectors = vectors * norm.weight.to(vectors.dtype)
    vectors = vectors - vectors.mean(-1, keepdim=True)
    dots = torch.einsum("kbd,bmd->kbm", vectors, hat) / rows.shape[2]
    return PooledGradient(first, vectors.to(dtype), dots.to(dtype), hat.to(dtype), inv.to(dtype))


@torch.no_grad()
def mean_gradient(backbone: Backbone, block: LastBlock, d_out: PooledGradient) -> Tensor:
    """Mean over the patches of d objective / d a, the residual stream around the block held fixed.

    Args:
        block: the forward pass. d_out: the gradient that enters the block from above.

    Returns:
        [K, B, D] in the block's dtype.
    """
    weights = _by_hand(backbone)
    mlp = _MlpBackward(weights, block, d_out)
    attention = _AttentionBackward(block.attention, d_out.first, d_out.hat.shape[1])
    out_proj = _scaled(weights.out_proj.weight, weights.scale_1).t()  # [D of the heads, D of the stream]
    sums = []
    for lane in d_out.lanes():
        # [D, D] @ [K, B, D, M]: head by head, transposed, as the products with the attention want it
        d_context = out_proj @ mlp(lane).transpose(-2, -1)
        sums.append(attention(torch.unflatten(d_context, 2, (weights.heads, -1))))
    return torch.cat(sums) @ weights.in_proj.weight / (block.out.shape[1] - 1)  # [K, B, 3D] @ [3D, D]


class _MlpBackward:
    """Backward through MLP and ``ln_2``; what the classes share is computed once."""

    def __init__(self, weights: LastBlockWeights, block: LastBlock, d_out: PooledGradient) -> None:
        rows = slice(d_out.first, d_out.first + d_out.hat.shape[1])
        self.second = _scaled(weights.fc2.weight, weights.scale_2)  # [D, 4D]
        self.first = weights.fc1.weight  # [4D, D]
        self.hat_hidden = d_out.hat @ self.second  # [B, M, 4D]
        assert block.hidden is not None  # kept by forward_last_block for this layout
        self.slope = _slope(weights.activation, block.hidden[:, rows]).mul_(d_out.inv)
        hat, self.inv = normalised(weights.ln_2, block.middle[:, rows])
        weight, dtype = weights.ln_2.weight.to(hat.dtype), block.out.dtype
        self.weight, self.hat = weight.to(dtype), hat.to(dtype)
        self.weighted_hat, self.factor = (hat * weight).to(dtype), (self.inv * weight).to(dtype)

    def __call__(self, d_out: PooledGradient) -> Tensor:
        """[K, B, M, D] gradient at ``block.middle``: through the MLP and past it."""
        d_hidden = (d_out.vectors @ self.second)[:, :, None]  # [K, B, 1, 4D]
        d_hidden = torch.addcmul(d_hidden, d_out.dots[..., None], self.hat_hidden, value=-1).mul_(self.slope)
        d_norm = d_hidden @ self.first  # [K, B, M, D], in front of the norm's weight
        width = d_norm.shape[-1]
        mean = (d_norm @ self.weight[:, None]) / width * self.inv  # [K, B, M, 1]
        dot = torch.linalg.vecdot(d_norm, self.weighted_hat)[..., None] / width * self.inv
        through = d_norm.mul_(self.factor).addcmul_(self.hat, dot.to(d_norm.dtype), value=-1).sub_(mean)
        past = d_out.dots[..., None] * d_out.inv
        return through.addcmul_(d_out.vectors[:, :, None], d_out.inv).addcmul_(d_out.hat, past, value=-1)


class _AttentionBackward:
    """Sums over the patches of dq, dk, dv, for queries ``first`` to ``first + count``."""

    def __init__(self, block: LastAttention, first: int, count: int) -> None:
        rows = slice(first, first + count)
        self.patches = first > 0  # the queries are the patches, not the class token
        self.q, self.k, self.probs = block.q[:, :, rows], block.k, block.probs[:, :, rows]
        self.context = block.context[:, :, rows].transpose(-2, -1).contiguous()[:, :, None]  # [B, heads, 1, d, M]
        self.v = block.v.transpose(-2, -1).contiguous()[:, :, None]  # [B, heads, 1, d, L]
        self.scale = block.q.shape[-1] ** -0.5

    def __call__(self, d_context: Tensor) -> Tensor:
        """d_context [K, B, heads, d, M] -> [K, B, 3D]."""
        d_o = d_context.permute(1, 2, 0, 3, 4)  # [B, heads, K, d, M]
        row = (d_o * self.context).sum(-2, keepdim=True)  # do_m . o_m
        first = (d_o * self.v[..., :1]).sum(-2, keepdim=True)  # do_m . v_cls
        stacked = torch.cat([d_o, row], -2)  # one product with the attention for both
        back = torch.unflatten(stacked.flatten(2, 3) @ self.probs, 2, stacked.shape[2:4])  # [B, heads, K, d+1, L]
        back, row_back = back[..., :-1, :], back[..., -1, :]
        cls_column = self.probs[..., 0][:, :, None] * (first - row)[..., 0, :]  # dA[m, cls], [B, heads, K, M]
        dv = back[..., 1:].sum(-1)  # [B, heads, K, d]
        dk = -self.scale * (cls_column @ self.q)
        dq = torch.zeros_like(dv)  # where only the class token is a query no patch has a gradient at its q
        if self.patches:
            dq = self.scale * (((back * self.v).sum(-2) - row_back) @ self.k)
        # [B, heads, K, d] -> [K, B, D] each
        return torch.cat([t.permute(2, 0, 1, 3).flatten(2) for t in (dq, dk, dv)], -1)


def _slope(activation: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    """Derivative of whichever activation the tower has, element by element."""
    with torch.enable_grad():
        leaf = hidden.detach().requires_grad_()
        (slope,) = torch.autograd.grad(activation(leaf).sum(), leaf)
    return slope


def normalised(norm: Norm, x: Tensor) -> tuple[Tensor, Tensor]:
    """(x - mean) / deviation [B, M, D] before weight and bias of ``norm``, and 1 / deviation [B, M, 1]; float32."""
    x = x.float()
    centred = x - x.mean(-1, keepdim=True)
    inv = (centred.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    return centred * inv, inv


def _scaled(weight: Tensor, layer_scale: Tensor | None) -> Tensor:
    """[D, M] weight of a linear layer with the LayerScale behind it folded in, where the block has one."""
    return weight if layer_scale is None else weight * layer_scale[:, None]


def _by_hand(backbone: Backbone) -> LastBlockWeights:
    """The last block where its gradient is written by hand. Raises TypeError for another layout."""
    last = backbone.last_block
    if not isinstance(last, LastBlockWeights):
        raise TypeError(f"the last block of {backbone.name} has a layout of its own; use mean_pooled_gradient")
    return last
