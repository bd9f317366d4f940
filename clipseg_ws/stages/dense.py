"""The dense patch embeddings that a configuration asks for: a mode of the last block, and what may be added to it.

| field | what it does | paper |
|---|---|---|
| ``outliers`` | outlier patch tokens become the mean of their neighbours before the last block | SC-CLIP, RF-CLIP |
| ``correlation`` | attention between patches from other blocks is mixed into the last block's | ResCLIP, ExCEL |
| ``layer_fusion`` | patch tokens of earlier blocks pass the last block too | CLIPer, SC-CLIP |
| ``dense_mode="proxy"`` | the attention is the patch similarity of a second vision model | ProxyCLIP |
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations.correlated import cross_correlation, intra_correlation, last_blocks, middle_blocks
from clipseg_ws.activations.correlated import needed_layers as layers_into
from clipseg_ws.activations.dense import dense_embeddings
from clipseg_ws.activations.fusion import early_fusion_embeddings, two_pass_embeddings
from clipseg_ws.activations.outliers import repair
from clipseg_ws.activations.proxy import patch_features, proxy_embeddings
from clipseg_ws.config import Config
from clipseg_ws.structures import Tokens


def needed_layers(config: Config, depth: int) -> tuple[int, ...]:
    """The ``keep_layers`` that ``backbone.encode`` has to be asked for."""
    layers: set[int] = set()
    if config.correlation != "none":
        blocks = middle_blocks(depth) if config.correlation == "cross" else last_blocks(depth)
        layers |= set(layers_into(blocks, depth))
    if config.layer_fusion != "none":
        layers |= set(fused_layers(config, depth))
    return tuple(sorted(layers))


def fused_layers(config: Config, depth: int) -> tuple[int, ...]:
    """Blocks whose output is fused: those of the later half ("early", CLIPer), or the middle ones ("two-pass")."""
    if config.layer_fusion == "early":
        return tuple(range(depth // 2, depth - 1))
    return tuple(sorted({max(block - 1, 0) for block in middle_blocks(depth)}))


def repaired(tokens: Tokens, config: Config) -> Tokens:
    """``tokens`` with the configured share of outliers replaced; the same object where none is asked for."""
    if not config.outliers:
        return tokens
    return repair(tokens, config.outliers, method=config.outlier_method)


def proxy_features(backbone: Any, features: Any, pixels: Tensor, config: Config) -> Tensor | None:
    """Patch features [B, C, h', w'] of the second model for ``pixels`` [B, 3, H, W]; None where they are not used.

    Raises:
        ValueError: they are needed and there is no second model.
    """
    if config.dense_mode != "proxy":
        return None
    if features is None:
        raise ValueError(
            f"method {config.method!r} reads a second vision model; give one, for example "
            "Segmenter(..., features='hf:facebook/dinov2-base') or --features hf:facebook/dinov2-base"
        )
    return patch_features(features, pixels, pixel_mean=backbone.mean, pixel_std=backbone.std)


def patch_embeddings(backbone: Any, tokens: Tokens, config: Config, proxy: Tensor | None = None) -> Tensor:
    """Unit patch embeddings [B, h, w, E] as configured ([B, h', w', E] on the second model's grid with "proxy").

    Args:
        tokens: of ``encode(..., keep_layers=needed_layers(config, depth))``, already ``repaired``.
        proxy: of ``proxy_features``.
    """
    if config.dense_mode == "proxy":
        assert proxy is not None
        return proxy_embeddings(backbone, tokens, proxy)
    if config.layer_fusion == "early":
        mine = {i: tokens.layers[i] for i in fused_layers(config, backbone.depth)}
        return early_fusion_embeddings(backbone, replace(tokens, layers=mine))
    options: dict[str, Any] = {}
    if config.correlation != "none":
        mixed = cross_correlation if config.correlation == "cross" else intra_correlation
        options = {"mix": mixed(backbone, tokens), "mix_weight": config.correlation_weight}
    if config.layer_fusion == "two-pass":
        layers = fused_layers(config, backbone.depth)
        return two_pass_embeddings(backbone, tokens, config.dense_mode, layers=layers, **options)
    return dense_embeddings(backbone, tokens, config.dense_mode, **options)


def on_grid(embeddings: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, h', w', E] unit vectors -> [B, h, w, E] on another grid, bilinear, of unit length again."""
    if embeddings.shape[1:3] == grid:
        return embeddings
    image = F.interpolate(embeddings.permute(0, 3, 1, 2), size=grid, mode="bilinear", align_corners=False)
    return F.normalize(image.permute(0, 2, 3, 1), dim=-1)
