"""The models of open_clip and which backbone each of them becomes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from clipseg_ws.backbones.errors import UnsupportedBackbone
from clipseg_ws.backbones.layout import CLIP_VOCABULARY, odd_layout
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.backbones.own_tower import OwnTower
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.backbones.short_texts import causal_tower, encode_short, end_places
from clipseg_ws.backbones.tower import Tower
from clipseg_ws.backbones.tower_backbone import Speech, TowerBackbone, trained_bias, trained_scale
from clipseg_ws.backbones.words import clip_tokenizer_module


def wrap_open_clip(model: Any, **settings: Any) -> Backbone:
    """For ``backbones.wrap``: mean and std as open_clip noted them in the model, unless they are given.

    Raises UnsupportedBackbone for a tower without patches that attend to one another, or for another vocabulary than
    CLIP's without a ``tokenizer``.
    """
    noted = {key: getattr(model.visual, f"image_{key}", None) for key in ("mean", "std")}
    settings = {key: value for key, value in noted.items() if value} | settings
    odd = odd_layout(model)
    tower = None if odd is None else open_clip_tower(model.visual)
    vocabulary = _vocabulary(model)
    if settings.get("tokenizer") is None and vocabulary != CLIP_VOCABULARY:
        raise UnsupportedBackbone(
            f"this model cannot be used: its text tower knows {vocabulary} tokens, CLIP's tokenizer has "
            f"{CLIP_VOCABULARY}; give its own, for example wrap(model, tokenizer=open_clip.get_tokenizer(name))"
        )
    if tower is None:
        return OpenClipBackbone(model, **settings)
    tokenizer = settings.pop("tokenizer", None) or _clip_tokenizer(model)
    texts = causal_tower(model)
    encode = partial(_encode_text, model) if texts is None else partial(encode_short, texts)
    ends = None if texts is None else partial(end_places, texts)
    speech = Speech(encode, tokenizer, trained_scale(model), trained_bias(model), ends)
    return TowerBackbone(model, tower, speech, **settings)


def open_clip_tower(visual: Any) -> Tower:
    """The tower of a vision module of open_clip. Raises UnsupportedBackbone where it is no ViT on a grid."""
    if hasattr(visual, "trunk"):
        from clipseg_ws.backbones.timm_tower import TimmTower

        return TimmTower(visual)
    return OwnTower(visual)


def _encode_text(model: Any, ids: Tensor) -> Tensor:
    embeddings: Tensor = model.encode_text(ids, normalize=False)
    return embeddings


def _vocabulary(model: Any) -> int:
    holder = model if hasattr(model, "vocab_size") else model.text
    return int(getattr(holder, "vocab_size", 0))


def _clip_tokenizer(model: Any) -> Callable[[list[str]], Tensor]:
    holder = model if hasattr(model, "context_length") else model.text
    kind = clip_tokenizer_module().SimpleTokenizer
    tokenizer: Callable[[list[str]], Tensor] = kind(context_length=int(holder.context_length))
    return tokenizer
