"""Texts through open_clip's causal text towers no further than their longest prompt: the rest is padding.

A token of a causal tower sees only those before it, and the tower is read at the end token: what stands behind it
changes nothing. Prompts have 5 to 20 tokens where the tower has 77.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def causal_tower(model: Any) -> Any | None:
    """The module that holds the text tower of an open_clip model, None where it must see all 77 tokens: no causal mask,
    pooled by another token than the end token, or not open_clip's own."""
    tower = model if hasattr(model, "token_embedding") else getattr(model, "text", None)
    parts = ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
    if tower is None or not all(hasattr(tower, part) for part in parts) or getattr(tower, "attn_mask", None) is None:
        return None
    if getattr(tower, "cls_emb", None) is not None or getattr(tower, "use_pad_mask", False):
        return None
    return tower if _pooling(tower) in ("argmax", "eos") else None


def _pooling(tower: Any) -> str:
    return str(getattr(tower, "text_pool_type", None) or getattr(tower, "pool_type", ""))


def _end_id(tower: Any) -> Any:
    return getattr(tower, "text_eos_id", getattr(tower, "eos_id", None))


def end_places(tower: Any, ids: Tensor) -> Tensor:
    """[T, context] token rows -> [T] places of the end tokens, at which the tower is read."""
    if _pooling(tower) == "argmax":
        return ids.argmax(1)
    return (ids == _end_id(tower)).int().argmax(1)


def encode_short(tower: Any, ids: Tensor) -> Tensor:
    """[T, context] token rows -> [T, E], as ``encode_text`` of the library gives them, not normalised."""
    ends = end_places(tower, ids)
    length = int(ends.max()) + 1
    dtype = tower.transformer.get_cast_dtype()
    x = tower.token_embedding(ids[:, :length]).to(dtype) + tower.positional_embedding[:length].to(dtype)
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
    pooled = x[torch.arange(len(x), device=x.device), ends]
    projection = tower.text_projection
    if projection is None:
        return pooled
    out: Tensor = projection(pooled) if isinstance(projection, torch.nn.Module) else pooled @ projection
    return out
