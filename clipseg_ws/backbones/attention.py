"""Softmax attention that leaves its mean over the heads behind, without ever holding all heads of all blocks.

On the CPU one head of one image goes at a time: its [L, L] matrix stays in the processor's cache, so that writing it
out costs about as much as the fused kernel, which cannot give it (numbers: eval/PERFORMANCE.md). Elsewhere one block's
heads go together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

Heads = Callable[[Tensor, Tensor, Tensor, "Tensor | None", bool], tuple[Tensor, ...]]


def split_heads(joint: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B, L, 3D], q, k and v joined in that order -> q, k, v, each [B, heads, L, d]."""
    batch, length, _ = joint.shape
    # [B, L, 3D] -> [3, B, heads, L, d]
    q, k, v = joint.reshape(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def attend(q: Tensor, k: Tensor, v: Tensor, total: Tensor | None = None, *, keep: bool = False) -> tuple[Tensor, ...]:
    """softmax(q k^T / sqrt d) v, every matrix counted on the way.

    Args:
        q, k, v: [B, heads, L, d] of one dtype.
        total: [B, L, L] float32; the sum over the heads of the softmax is added to it in place.
        keep: return the softmax as well.

    Returns:
        (context [B, heads, L, d],), with ``keep`` also the softmax [B, heads, L, L]; both in v's dtype. The softmax is
        taken in float32. Not differentiable on the CPU.
    """
    q = q * q.shape[-1] ** -0.5
    if q.device.type != "cpu":
        probs = torch.softmax(q @ k.transpose(-2, -1), -1, dtype=torch.float32)
        if total is not None:
            total += probs.sum(1)
        probs = probs.to(v.dtype)
        return (probs @ v, probs) if keep else (probs @ v,)
    return _heads(q, k, v, total, keep)


def explicit_is_faster(v: Tensor) -> bool:
    """Whether ``attend`` beats the fused kernel although it writes the matrices out: bfloat16 on the CPU."""
    return v.device.type == "cpu" and v.dtype == torch.bfloat16


def keep_heads_apart() -> None:
    """For all who compile: a compiler would put the heads together again. Without one nothing is imported for it."""
    global _heads
    _heads = cast(Heads, cast(Any, torch.compiler).disable(_head_by_head))


def _head_by_head(q: Tensor, k: Tensor, v: Tensor, total: Tensor | None, keep: bool) -> tuple[Tensor, ...]:
    """The same with one [L, L] matrix at a time; q is scaled already."""
    batch, heads, length, _ = q.shape
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    context = torch.empty_like(v)
    kept = v.new_empty(batch, heads, length, length) if keep else None
    scores = v.new_empty(length, length)
    wide = torch.empty_like(scores, dtype=torch.float32)
    for b in range(batch):
        for h in range(heads):
            torch.mm(q[b, h], k[b, h].t(), out=scores)
            torch.softmax(scores, -1, dtype=torch.float32, out=wide)
            if total is not None:
                total[b] += wide
            probs = wide if v.dtype == torch.float32 else scores.copy_(wide)
            torch.mm(probs, v[b, h], out=context[b, h])
            if kept is not None:
                kept[b, h] = probs
    return (context,) if kept is None else (context, kept)


_heads: Heads = _head_by_head
