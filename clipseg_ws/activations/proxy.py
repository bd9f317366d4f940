"""ProxyCLIP: the attention of the last CLIP block is replaced by the patch similarity of another vision model.

Lan et al., "ProxyCLIP: Proxy Attention Improves CLIP for Open-Vocabulary Segmentation", ECCV 2024. The mean
similarity is taken per image, so that a result does not depend on its batch (the paper's code averages over it), and
rows and columns keep their order on pictures that are not square.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.backbones.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.structures import Tokens


def proxy_attention(features: Tensor, *, beta: float = 1.2, gamma: float = 3.0) -> Tensor:
    """softmax(gamma (S - beta mean S)) with entries below 0 removed; S is the cosine between all cells.

    Args:
        features: [B, C, h', w'] of the other model.

    Returns [B, n, n], n = h' w', rows adding up to 1. Where the features are so alike that nothing would be left of
    a row (mean S > 1 / beta), that row keeps all its entries instead of becoming NaN.
    """
    cells = F.normalize(features.float().flatten(2), dim=1).transpose(1, 2)  # [B, C, h', w'] -> [B, n, C]
    similarity = cells @ cells.transpose(1, 2)
    logits = gamma * (similarity - beta * similarity.mean((1, 2), keepdim=True))
    kept = logits >= 0
    kept = kept | ~kept.any(-1, keepdim=True)
    return logits.masked_fill(~kept, -math.inf).softmax(-1)


def proxy_embeddings(
    backbone: Backbone, tokens: Tokens, features: Tensor, *, beta: float = 1.2, gamma: float = 3.0
) -> Tensor:
    """Unit patch embeddings [B, h', w', E] on the other model's grid.

    Args:
        backbone: the frozen CLIP. tokens: of ``backbone.encode``.
        features: [B, C, h', w'] patch features of the other model for the same pictures (``patch_features``).

    Raises:
        ValueError: the batch sizes differ.
    """
    if features.ndim != 4 or features.shape[0] != tokens.last_input.shape[0]:
        raise ValueError(
            f"features have shape {tuple(features.shape)}; [B, C, h', w'] with B={tokens.last_input.shape[0]} is "
            "needed, for example patch_features(model, pixels)"
        )
    value = proxy_values(backbone, tokens, (features.shape[2], features.shape[3]))
    attention = proxy_attention(features, beta=beta, gamma=gamma).to(value.dtype)
    # [B, heads, d, h', w'] -> [B, heads, n, d]; the attention is the same for all heads
    last = backbone.last_block
    x = last.project(attention.unsqueeze(1) @ value.flatten(3).transpose(2, 3))
    return torch.unflatten(F.normalize(last.embed(x), dim=-1), 1, (features.shape[2], features.shape[3]))


def proxy_values(backbone: Backbone, tokens: Tokens, size: tuple[int, int]) -> Tensor:
    """Values of the last block, class token dropped, bilinearly resized to ``size``: [B, heads, d, h', w']."""
    last = backbone.last_block
    _, _, v = last.qkv(last.ln_1(tokens.last_input), tokens.grid)
    # [B, heads, 1+N, d] -> [B, heads, d, N] -> [B, heads d, h, w]
    image = torch.unflatten(v[:, :, 1:].transpose(2, 3).flatten(1, 2), 2, tokens.grid)
    image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
    return torch.unflatten(image, 1, (v.shape[1], v.shape[3]))


@torch.no_grad()
def patch_features(
    source: Any,
    pixels: Tensor,
    *,
    pixel_mean: Sequence[float] = IMAGENET_MEAN,
    pixel_std: Sequence[float] = IMAGENET_STD,
) -> Tensor:
    """Patch features [B, C, h', w'] of the other model for the pixels of the CLIP backbone.

    Args:
        source: a ``backbones.protocol.PictureModel`` (DINO, DINOv2, DINOv3, ... by ``load_features``), or a SAM
            encoder of ``transformers`` (``last_hidden_state`` [B, C, h', w'], ``config.image_size``).
        pixels: [B, 3, H, W] normalised with ``pixel_mean`` and ``pixel_std``. They are normalised anew for the other
            model and resized bilinearly to a multiple of its patch size (SAM: to its one size).

    Raises:
        ValueError: a model that is neither.
    """
    is_backbone = hasattr(source, "encode")
    if not is_backbone and not getattr(source.config, "model_type", "").startswith("sam"):
        raise ValueError(
            f"{type(source).__name__} is neither a FeatureBackbone nor a SAM encoder; wrap it, for example "
            "FeatureBackbone(model) or load_features('hf:facebook/dinov2-base')"
        )
    mean, std = (source.mean, source.std) if is_backbone else (IMAGENET_MEAN, IMAGENET_STD)
    x = _renormalised(pixels.float(), (pixel_mean, pixel_std), (mean, std))
    size = _input_size(source, is_backbone, (x.shape[2], x.shape[3]))
    if size != (x.shape[2], x.shape[3]):
        x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    if is_backbone:
        tokens = source.encode(x, attention_blocks=0)
        patches = tokens.last_input[:, 1:].transpose(1, 2)  # [B, 1+n, C] -> [B, C, n]
        return torch.unflatten(patches, 2, tokens.grid)
    weight = next(source.parameters())
    hidden: Tensor = source(x.to(weight.device, weight.dtype)).last_hidden_state
    return hidden


def _input_size(source: Any, is_backbone: bool, size: tuple[int, int]) -> tuple[int, int]:
    """The picture size that the other model takes."""
    if is_backbone:
        p = int(source.patch_size)
        return math.ceil(size[0] / p) * p, math.ceil(size[1] / p) * p
    side = source.config.image_size
    return (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))


Normalisation = tuple[Sequence[float], Sequence[float]]  # mean and standard deviation of R, G, B


def _renormalised(pixels: Tensor, before: Normalisation, after: Normalisation) -> Tensor:
    """Undo one normalisation of [B, 3, H, W] and apply another."""
    mean, std, new_mean, new_std = (
        torch.tensor(v, dtype=pixels.dtype, device=pixels.device).view(1, 3, 1, 1) for v in (*before, *after)
    )
    return (pixels * std + mean - new_mean) / new_std
