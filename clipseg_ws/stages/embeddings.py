"""Embeddings of pictures of one grid, for choosing prompts and for banks of examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from clipseg_ws.activations.last_block import forward_last_block, pool_embedding
from clipseg_ws.stages.dense import patch_embeddings, repaired
from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.structures import Tokens


def image_embeddings(encoder: Encoder, pictures: Sequence[Any]) -> Tensor:
    """Pooled embeddings [B, E] float32, not normalised, as ``config.pool`` says."""
    tokens = encoder.clip(_pixels(encoder, pictures))
    block = forward_last_block(encoder.backbone, tokens.last_input, tokens.last, tokens.grid)
    return pool_embedding(encoder.backbone, block.out, encoder.config.pool)


def picture_patches(encoder: Encoder, pictures: Sequence[Any]) -> Tensor:
    """Unit patch embeddings [B, h, w, E] float32 in the space of the names, as the dense maps have them."""
    ready = [encoder.picture(picture) for picture in pictures]
    pixels = encoder.pixels(ready)
    tokens = repaired(encoder.clip(pixels), encoder.config)
    beside = encoder.beside(pixels, encoder.regions(ready))
    return patch_embeddings(encoder.backbone, tokens, encoder.config, beside).float()


def support_tokens(encoder: Encoder, pictures: Sequence[Any]) -> Tokens:
    """Tokens without attention; with ``config.cache_mb`` only what is not known yet is encoded."""
    return encoder.clip(_pixels(encoder, pictures), attention=False)


def _pixels(encoder: Encoder, pictures: Sequence[Any]) -> Tensor:
    return encoder.pixels([encoder.picture(picture) for picture in pictures])
