"""The dense patch embeddings that a configuration asks for: a mode of the last block, and the steps inside it.

The steps ``outliers`` (tokens), ``correlation`` and ``layer_fusion`` (dense) of ``config.STEPS`` run here;
``dense_mode="proxy"`` takes its attention from the patches of a second vision model (ProxyCLIP).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations import DENSE_MODES
from clipseg_ws.activations.correlated import cross_correlation, intra_correlation, last_blocks, middle_blocks
from clipseg_ws.activations.correlated import needed_layers as layers_into
from clipseg_ws.activations.dense import dense_embeddings
from clipseg_ws.activations.fusion import early_fusion_embeddings, two_pass_embeddings
from clipseg_ws.activations.proxy import patch_features, proxy_embeddings
from clipseg_ws.config import STEPS, Config
from clipseg_ws.regions.attention import corrclip_embeddings, textregion_embeddings
from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.structures import Tokens


@dataclass(frozen=True, eq=False)
class Beside:
    """What dense maps may follow beside CLIP's own tokens.

    Attributes:
        features: [B, C, h', w'] of the second vision model, None where they are not read.
        regions: of each of the B pictures (or of its window), None where there are none.
    """

    features: Tensor | None = None
    regions: Sequence[RegionSet] | None = None


NOTHING = Beside()


def needed_layers(config: Config, depth: int) -> tuple[int, ...]:
    """The ``keep_layers`` that ``backbone.encode`` has to be asked for."""
    layers: set[int] = set()
    if mixed := config.step("correlation"):
        blocks = middle_blocks(depth) if mixed["kind"] == "cross" else last_blocks(depth)
        layers |= set(layers_into(blocks, depth))
    if config.dense_mode == "corrclip":
        layers |= set(range(depth - 1))
    if fused := config.step("layer_fusion"):
        layers |= set(fused_layers(fused["kind"], depth))
    return tuple(sorted(layers))


def fused_layers(kind: str, depth: int) -> tuple[int, ...]:
    """Blocks whose output is fused: those of the later half ("early", CLIPer), or the middle ones ("two-pass")."""
    if kind == "early":
        return tuple(range(depth // 2, depth - 1))
    return tuple(sorted({max(block - 1, 0) for block in middle_blocks(depth)}))


def repaired(tokens: Tokens, config: Config) -> Tokens:
    """``tokens`` after the steps of kind "tokens"; the same object where there is none."""
    for name, parameters in config.run_at("tokens"):
        tokens = STEPS[name].load()(tokens, **parameters)
    return tokens


def check_second_model(config: Config, features: Any, head: Any = None) -> None:
    """Raise ValueError where the dense maps take their attention from a second model and there is none.

    Called before anything is loaded. ``head``: a trained head makes no dense maps.
    """
    dense = config.decision == "words" or config.activation != "gradcam"
    if reads_second(config) and features is None and head is None and dense:
        raise _no_second_model(config)


def reads_second(config: Config) -> bool:
    """Whether the dense maps follow a second vision model."""
    return bool(DENSE_MODES[config.dense_mode].about.get("second_model"))


def _no_second_model(config: Config) -> ValueError:
    return ValueError(
        f"method {config.method!r} reads a second vision model; give one, for example "
        "Segmenter(..., features='hf:facebook/dinov2-base') or --features hf:facebook/dinov2-base"
    )


def proxy_features(backbone: Any, features: Any, pixels: Tensor, config: Config) -> Tensor | None:
    """Patch features [B, C, h', w'] of the second model for ``pixels`` [B, 3, H, W]; None where they are not used.

    Raises:
        ValueError: they are needed and there is no second model.
    """
    if not reads_second(config):
        return None
    if features is None:
        raise _no_second_model(config)
    return patch_features(features, pixels, pixel_mean=backbone.mean, pixel_std=backbone.std)


def patch_embeddings(backbone: Any, tokens: Tokens, config: Config, beside: Beside = NOTHING) -> Tensor:
    """Unit patch embeddings [B, h, w, E] as configured ([B, h', w', E] on the second model's grid where it is read).

    Args:
        tokens: of ``encode(..., keep_layers=needed_layers(config, depth))``, already ``repaired``.
        beside: the second model's features and the regions, where they are read.
    """
    if config.dense_mode == "proxy":
        assert beside.features is not None
        return proxy_embeddings(backbone, tokens, beside.features)
    if config.dense_mode == "corrclip":
        assert beside.features is not None and beside.regions is not None
        earlier = replace(tokens, layers={i: tokens.layers[i] for i in range(backbone.depth - 1)})
        return corrclip_embeddings(backbone, earlier, beside.features, beside.regions)
    if config.dense_mode == "textregion":
        assert beside.regions is not None
        return textregion_embeddings(backbone, tokens, beside.regions)
    fused, mixed = config.step("layer_fusion"), config.step("correlation")
    if fused and fused["kind"] == "early":
        mine = {i: tokens.layers[i] for i in fused_layers("early", backbone.depth)}
        return early_fusion_embeddings(backbone, replace(tokens, layers=mine))
    options: dict[str, Any] = {}
    if mixed:
        mix = cross_correlation if mixed["kind"] == "cross" else intra_correlation
        options = {"mix": mix(backbone, tokens), "mix_weight": mixed["weight"]}
    if fused:
        layers = fused_layers(fused["kind"], backbone.depth)
        return two_pass_embeddings(backbone, tokens, config.dense_mode, layers=layers, **options)
    return dense_embeddings(backbone, tokens, config.dense_mode, **options)


def plain_dense(config: Config, mode: str) -> bool:
    """Whether ``patch_embeddings`` are the plain ones of ``mode``, so that they need not be made twice."""
    return config.dense_mode == mode and not config.run_at("dense")


def on_grid(embeddings: Tensor, grid: tuple[int, int]) -> Tensor:
    """[B, h', w', E] unit vectors -> [B, h, w, E] on another grid, bilinear, of unit length again."""
    if embeddings.shape[1:3] == grid:
        return embeddings
    image = F.interpolate(embeddings.permute(0, 3, 1, 2), size=grid, mode="bilinear", align_corners=False)
    return F.normalize(image.permute(0, 2, 3, 1), dim=-1)
