"""Pictures to tokens as the configuration asks: sizes, grids, what was prepared beforehand, what is cached."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from clipseg_ws.activations import layers_needed
from clipseg_ws.backbones.features import FeatureBackbone
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.config import Config
from clipseg_ws.pictures.images import attach_pixels, attached_pixels, to_image, to_pixels
from clipseg_ws.pictures.sizes import target_size
from clipseg_ws.stages.better_maps import structure_layers
from clipseg_ws.stages.dense import needed_layers, proxy_features
from clipseg_ws.stages.token_cache import TokenCache
from clipseg_ws.structures import Tokens

SIZES = ("short_side", "long_side", "max_patches")
Model = OpenClipBackbone | FeatureBackbone


class Encoder:
    """CLIP and, where there is one, the second vision model, in one configuration.

    Args:
        cache: shared by all encoders of one Segmenter and its variants.
    """

    def __init__(
        self, backbone: OpenClipBackbone, features: FeatureBackbone | None, config: Config, cache: TokenCache
    ) -> None:
        self.backbone, self.features, self.config, self._cache = backbone, features, config, cache

    def grid(self, size: tuple[int, int], model: Model | None = None) -> tuple[int, int]:
        """Patch grid (h, w) that a picture of ``size`` (width, height) gets, by default CLIP's."""
        p, config = (model or self.backbone).patch_size, self.config
        height, width = target_size(*size, p, config.short_side, config.long_side, config.max_patches)
        return height // p, width // p

    def grids(self, size: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """Grids of every model that sees the picture; pictures that agree in them share a batch."""
        return tuple(self.grid(size, model) for model in (self.backbone, self.features) if model is not None)

    def prepare(self, image: Any) -> Image.Image:
        """The picture with CLIP's input attached, made now."""
        picture, sizes = to_image(image), self._sizes(self.backbone)
        attach_pixels(picture, sizes, to_pixels(picture, **sizes))
        return picture

    def clip(self, pictures: Sequence[Image.Image], resize: bool = True) -> Tokens:
        """CLIP's tokens of pictures of one grid; those in the cache are not encoded again.

        ``resize``: as the configuration says; False leaves the pictures as they are (sides are then whole patches).
        """
        if not self.config.cache_tokens:
            return self._encode(pictures, resize)
        keys = [self._key(picture, resize) for picture in pictures]
        return self._cache.fetch(
            keys, lambda missing: self._encode([pictures[i] for i in missing], resize), self.config.cache_tokens
        )

    def second(self, pictures: Sequence[Image.Image], resize: bool = True) -> Tokens:
        """Tokens of the second vision model, with attention where the affinity needs it."""
        assert self.features is not None
        blocks = self.config.attention_blocks if self.config.affinity else 0
        layers = layers_needed(self.config.fewshot.kinds)
        return self.features.encode(
            self._pixels(pictures, self.features, resize), attention_blocks=blocks, keep_layers=layers
        )

    def proxy(self, pictures: Sequence[Image.Image], resize: bool = True) -> Tensor | None:
        """Patch features of the second vision model, where the configuration reads them for dense maps."""
        if self.config.dense_mode != "proxy":
            return None
        return proxy_features(self.backbone, self.features, self._pixels(pictures, self.backbone, resize), self.config)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _encode(self, pictures: Sequence[Image.Image], resize: bool) -> Tokens:
        pixels = self._pixels(pictures, self.backbone, resize)
        return self.backbone.encode(pixels, attention_blocks=self.config.attention_blocks, keep_layers=self._layers())

    def _layers(self) -> tuple[int, ...]:
        """Blocks whose tokens the dense maps, the affinity and the examples read."""
        config, depth = self.config, self.backbone.depth
        wanted = (needed_layers(config, depth), structure_layers(config, depth))
        own = () if self.features is not None else layers_needed(config.fewshot.kinds)
        return tuple(sorted({*wanted[0], *wanted[1], *own}))

    def _pixels(self, pictures: Sequence[Image.Image], model: Model, resize: bool) -> Tensor:
        """[B, 3, H, W] for one of the models, from pictures of one grid, on its device."""
        sizes = self._sizes(model, resize)
        ready = [attached_pixels(picture, sizes) for picture in pictures]
        pixels = torch.stack([
            to_pixels(picture, **sizes) if made is None else made for picture, made in zip(pictures, ready, strict=True)
        ])  # fmt: skip
        if model.device.type == "cuda":
            pixels = pixels.pin_memory().to(model.device, non_blocking=True)
        return pixels

    def _sizes(self, model: Model, resize: bool = True) -> dict[str, Any]:
        """What decides a picture's network input."""
        sizes = {"patch_size": model.patch_size, "mean": model.mean, "std": model.std}
        return sizes | {key: getattr(self.config, key) for key in SIZES if resize}

    def _key(self, picture: Image.Image, resize: bool) -> tuple:
        """What the tokens of a picture depend on."""
        digest = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
        config = self.config
        sizes = [getattr(config, key) for key in SIZES] if resize else []
        return (
            digest, picture.size, *sizes, config.position_interpolation, config.attention_blocks, self._layers()
        )  # fmt: skip
