"""Embeddings of several depths fused: all of them go through the last block, whose output the text knows.

Early-layer fusion (CLIPer, Sun et al., ICCV 2025, arXiv 2411.13836): the mean attention of the blocks replaces the
last block's, and the patch tokens of several earlier blocks pass its value path. Multi-level fusion in two passes
(SC-CLIP, Bai et al., arXiv 2411.15869): the last block's output for its own input plus that for the sum of mid-level
tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations.correlated import row_normalised
from clipseg_ws.activations.dense import dense_features, value_embeddings
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.structures import Tokens


def early_fusion_embeddings(backbone: Backbone, tokens: Tokens) -> Tensor:
    """Unit embeddings [B, h, w, E]: mean over the kept layers and the last input, each through the value path.

    Args:
        tokens: of ``encode(pixels, attention_blocks=depth, keep_layers=...)``; CLIPer averages the attention of all
            blocks and fuses the later half of the layers.

    Raises:
        ValueError: no layers or no attention were kept.
    """
    if tokens.attention is None or not tokens.layers:
        raise ValueError(
            f"attention is {'missing' if tokens.attention is None else 'there'}, layers kept: {sorted(tokens.layers)}; "
            "both are needed, for example encode(pixels, attention_blocks=12, keep_layers=(6, 7, 8, 9, 10))"
        )
    attention = row_normalised(tokens.attention)
    inputs = [*(tokens.layers[i] for i in sorted(tokens.layers)), tokens.last_input[:, 1:]]
    units = [value_embeddings(backbone, patches, attention, tokens.grid) for patches in inputs]
    return F.normalize(torch.stack(units).mean(0), dim=-1)  # the mean of unit vectors averages their cosines


def two_pass_embeddings(
    backbone: Backbone, tokens: Tokens, mode: str = "naclip", *, layers: Sequence[int] | None = None, **options: Any
) -> Tensor:
    """Unit embeddings [B, h, w, E] of L(last input) + L(sum of the given layers), L the last block in ``mode``.

    Args:
        layers: indices among ``tokens.layers``; all that were kept by default. options: of ``dense_embeddings``.

    Raises:
        ValueError: no layer, or one that was not kept.
    """
    chosen = tuple(sorted(tokens.layers)) if layers is None else tuple(layers)
    if not chosen or any(i not in tokens.layers for i in chosen):
        raise ValueError(
            f"layers={chosen}, kept: {sorted(tokens.layers)}; encode with keep_layers first, for example "
            "keep_layers=(4, 5, 6, 7, 8)"
        )
    summed = torch.stack([tokens.layers[i] for i in chosen]).sum(0)
    middle = replace(tokens, last_input=torch.cat([tokens.last_input[:, :1], summed], 1), last=None)
    total = dense_features(backbone, tokens, mode, **options) + dense_features(backbone, middle, mode, **options)
    return torch.unflatten(F.normalize(total, dim=-1), 1, tokens.grid)  # [B, N, E] -> [B, h, w, E]
