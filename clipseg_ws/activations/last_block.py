"""Forward and mean gradient of the last block, for all classes at once and without autograd.

Softmax-GradCAM needs only the *mean over patches* of d prob / d a, where a is the output of the last block's ``ln_1``.
That mean commutes with the input projections, so no gradient of the size [N, D] is projected back and no N x N
matrix is made per class:

    sum_p dq_p = s * sum_n C_n k_n      C_n = sum over patches m of dA[m, n]        (column sums only)
    sum_p dk_p = -s * sum_m dA[m, cls] q_m           rows of dA sum to zero, so only the class column is left
    sum_p dv_p = sum_m (1 - P[m, cls]) do_m          rows of the attention P sum to one

with dA[m, n] = P[m, n] (do_m . v_n - do_m . o_m). What is left per class is the MLP's backward and one product
P^T do. The result equals autograd's (tests/activations/test_last_block.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipseg_ws.backbones.openclip import OpenClipBackbone


@dataclass(frozen=True, eq=False)
class LastBlock:
    """The last block's forward pass, kept for the gradient.

    Attributes:
        a: [B, L, D] output of ``ln_1`` (the GradCAM activations), L = 1 + N, class token first.
        q, k, v: [B, heads, L, d]. probs: [B, heads, L, L] softmax attention. context: [B, heads, L, d] = probs @ v.
        middle: [B, L, D] residual stream between attention and MLP. out: [B, L, D] the block's output.
    """

    a: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    probs: Tensor
    context: Tensor
    middle: Tensor
    out: Tensor


@torch.no_grad()
def forward_last_block(backbone: OpenClipBackbone, last_input: Tensor) -> LastBlock:
    """Run the last block on [B, 1+N, D] and keep what ``mean_gradient`` needs."""
    a = backbone.last_norm(last_input)
    q, k, v = backbone.last_qkv(a)
    probs = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).float().softmax(-1).to(v.dtype)
    context = probs @ v
    middle = last_input + backbone.last_project(context)
    return LastBlock(a, q, k, v, probs, context, middle, backbone.last_mlp(middle))


@torch.no_grad()
def mean_gradient(backbone: OpenClipBackbone, block: LastBlock, d_out: Tensor, *, first: int) -> Tensor:
    """Mean over the patches of d objective / d a, the residual stream around the block held fixed.

    Args:
        block: the forward pass.
        d_out: [K, B, M, D] gradient of K objectives with respect to ``block.out[:, first : first + M]``; the
            objectives do not depend on other tokens.
        first: index of the first token of ``d_out`` (1 for the patches, 0 with M = 1 for the class token).

    Returns:
        [K, B, D] in the block's dtype.
    """
    module = backbone.blocks[-1]
    rows = slice(first, first + d_out.shape[2])
    d_middle = d_out + _mlp_backward(module, block.middle[:, rows], d_out)
    attn = module.attn
    d_context = (d_middle * _scale(module.ls_1)) @ attn.out_proj.weight  # [K, B, M, D]
    k_lanes, batch, count, _ = d_context.shape
    heads = attn.num_heads
    # [K, B, M, D] -> [B, heads, M, K, d]: the classes become columns of one product per image and head
    d_o = d_context.reshape(k_lanes, batch, count, heads, -1).permute(1, 3, 2, 0, 4)
    dq, dk, dv = _attention_backward(block, d_o, rows)
    weight = attn.in_proj_weight  # [3D, D]
    total = torch.cat([_join_heads(t) for t in (dq, dk, dv)], -1) @ weight  # [K, B, 3D] @ [3D, D]
    return total / (block.a.shape[1] - 1)


def _attention_backward(block: LastBlock, d_o: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the patches of dq, dk, dv, each [B, heads, K, d]; d_o [B, heads, M, K, d] belongs to ``rows``."""
    q, k, v = block.q[:, :, rows], block.k, block.v
    probs, context = block.probs[:, :, rows], block.context[:, :, rows]
    scale = q.shape[-1] ** -0.5
    row = torch.einsum("bhmkd,bhmd->bhmk", d_o, context)  # do_m . o_m
    back = probs.transpose(-2, -1) @ d_o.flatten(-2)  # [B, heads, L, K*d] = P^T do
    back = back.unflatten(-1, d_o.shape[-2:])  # [B, heads, L, K, d]
    cls_column = probs[..., :1] * (torch.einsum("bhmkd,bhd->bhmk", d_o, v[:, :, 0]) - row)  # dA[m, cls]
    if rows.start:  # the queries are the patches
        columns = torch.einsum("bhlkd,bhld->bhlk", back, v) - probs.transpose(-2, -1) @ row
        dq = scale * torch.einsum("bhlk,bhld->bhkd", columns, k)
    else:  # only the class token is a query: no patch has a gradient at its q
        dq = torch.zeros_like(d_o[:, :, 0])
    dk = -scale * torch.einsum("bhmk,bhmd->bhkd", cls_column, q)
    dv = back[:, :, 1:].sum(2)
    return dq, dk, dv


def _join_heads(x: Tensor) -> Tensor:
    """[B, heads, K, d] -> [K, B, D]."""
    return x.permute(2, 0, 1, 3).flatten(2)


def _mlp_backward(module: Any, x: Tensor, d_out: Tensor) -> Tensor:
    """Gradient through ``ls_2(mlp(ln_2(x)))``: x [B, M, D], d_out [K, B, M, D] -> [K, B, M, D]."""
    hidden = module.mlp.c_fc(module.ln_2(x))
    with torch.enable_grad():  # derivative of whichever activation the tower has, element by element
        leaf = hidden.detach().requires_grad_()
        (slope,) = torch.autograd.grad(module.mlp.gelu(leaf).sum(), leaf)
    d_hidden = (d_out * _scale(module.ls_2)) @ module.mlp.c_proj.weight
    d_norm = (d_hidden * slope) @ module.mlp.c_fc.weight
    return layer_norm_backward(module.ln_2, x, d_norm)


def layer_norm_backward(norm: nn.LayerNorm, x: Tensor, d_out: Tensor) -> Tensor:
    """Gradient of ``norm`` at x [B, M, D] for d_out [K, B, M, D] (statistics in float32) -> [K, B, M, D]."""
    x32 = x.float()
    centred = x32 - x32.mean(-1, keepdim=True)
    inv = (centred.square().mean(-1, keepdim=True) + norm.eps).rsqrt()
    hat = (centred * inv).to(d_out.dtype)
    d_hat = d_out * norm.weight.to(d_out.dtype) if norm.weight is not None else d_out
    d_in = d_hat - d_hat.mean(-1, keepdim=True) - hat * (d_hat * hat).mean(-1, keepdim=True)
    return d_in * inv.to(d_out.dtype)


def _scale(layer_scale: Any) -> Tensor | float:
    """Factor of a LayerScale, 1.0 where the block has none."""
    return getattr(layer_scale, "gamma", 1.0)


def pooled_gradient(backbone: OpenClipBackbone, block: LastBlock, d_embedding: Tensor, pool: str) -> tuple[Tensor, int]:
    """Gradient at ``block.out`` of objectives on the pooled embedding.

    Args:
        d_embedding: [K, B, E] gradient with respect to the pooled (not normalised) embedding.
        pool: "patch" (mean over the patch tokens) or "cls".

    Returns:
        ([K, B, M, D], index of the first token).
    """
    d_norm = d_embedding @ backbone.visual.proj.t().to(d_embedding.dtype)  # [K, B, D]
    rows = block.out[:, :1] if pool == "cls" else block.out[:, 1:]
    d_norm = (d_norm / rows.shape[1])[:, :, None].expand(-1, -1, rows.shape[1], -1)
    d_out = layer_norm_backward(backbone.visual.ln_post, rows, d_norm)
    return d_out.to(block.out.dtype), 0 if pool == "cls" else 1


def pool_embedding(backbone: OpenClipBackbone, out: Tensor, pool: str) -> Tensor:
    """[B, 1+N, D] -> [B, E] float32: embedding of the class token ("cls") or mean over the patches ("patch")."""
    if pool == "cls":
        return backbone.embed(out[:, 0]).float()
    normed = backbone.visual.ln_post(out[:, 1:]).float().mean(1)  # the projection is linear: mean first
    return normed @ backbone.visual.proj.float()


def normalize(embedding: Tensor) -> Tensor:
    """Unit length over the last axis."""
    return F.normalize(embedding, dim=-1)
