"""Pictures to tokens as the configuration asks: sizes, grids, what is made beforehand, what is cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from clipseg_ws.activations import layers_needed
from clipseg_ws.backbones.protocol import Backbone, PictureModel
from clipseg_ws.config import Config
from clipseg_ws.pictures.images import to_image, to_pixels
from clipseg_ws.pictures.picture import Grids, Picture
from clipseg_ws.pictures.sizes import target_size
from clipseg_ws.regions.cut import Cutter
from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.regions.sam_words import Labeller
from clipseg_ws.stages.cache import TokenCache, digest
from clipseg_ws.stages.dense import Beside, needed_layers, proxy_features
from clipseg_ws.stages.looks import Look, scaled
from clipseg_ws.stages.map_steps import structure_layers
from clipseg_ws.structures import Tokens


class Encoder:
    """CLIP and, where there is one, the second vision model, in one configuration.

    Args:
        cache: shared by all encoders of one Segmenter and its variants; used where ``config.cache_mb`` is not 0.
        whole: pictures become whole patches; False leaves that to sliding windows.
        cutter: makes the regions of ``config.regions``; None where there are none.
        labeller: of ``config.labeller``, None without.
    """

    def __init__(
        self, backbone: Backbone, features: PictureModel | None, config: Config, cache: TokenCache, *,
        whole: bool = True, cutter: Cutter | None = None, labeller: Labeller | None = None,
    ) -> None:  # fmt: skip
        self.backbone, self.features, self.config, self._cache = backbone, features, config, cache
        self._whole, self._cutter, self.labeller = whole, cutter, labeller

    # ---- pictures ----------------------------------------------------------------------------------------------------

    def picture(self, image: Any, source: str | None = None) -> Picture:
        """What ``to_image`` takes, with grid and network input made now; a Picture made for these settings as it is."""
        made_for = self._made_for()
        if isinstance(image, Picture):
            if image.made_for == made_for:
                return image
            image, source = image.image, image.source
        rgb = to_image(image)
        pixels = to_pixels(rgb, **self._sizes(self.backbone))
        regions = None if self._cutter is None else self._cutter(rgb, source)
        return Picture(rgb, source, self.grids(rgb.size), pixels, made_for, regions)

    def regions(self, pictures: Sequence[Picture], look: Look = (1.0, False)) -> list[RegionSet] | None:
        """The regions of pictures as a look sees them; None where nothing reads any."""
        if self._cutter is None:
            return None
        return [picture.regions.mirrored() if look[1] else picture.regions for picture in pictures]

    def grid(self, size: tuple[int, int], model: PictureModel | None = None) -> tuple[int, int]:
        """Patch grid (h, w) that a picture of ``size`` (width, height) gets, by default CLIP's."""
        sizes = self._sizes(model or self.backbone)
        height, width = target_size(
            *size, sizes["patch_size"], sizes["short_side"], sizes["long_side"], sizes["max_patches"]
        )
        return height // sizes["patch_size"], width // sizes["patch_size"]

    def grids(self, size: tuple[int, int]) -> Grids:
        """Grids of every model that sees the picture; pictures that agree in them share a batch."""
        return tuple(self.grid(size, model) for model in (self.backbone, self.features) if model is not None)

    def pixels(self, pictures: Sequence[Picture], look: Look = (1.0, False)) -> Tensor:
        """[B, 3, H, W] for CLIP on its device, of pictures of one grid, looked at as ``look`` says."""
        if look == (1.0, False):
            return self._moved(torch.stack([picture.pixels for picture in pictures]), self.backbone)
        return self._resized(pictures, self.backbone, look)

    # ---- tokens ------------------------------------------------------------------------------------------------------

    def clip(self, pixels: Tensor, *, attention: bool = True) -> Tokens:
        """CLIP's tokens of [B, 3, H, W] with what the configuration reads; those in the cache are not encoded again.

        ``attention``: False leaves it out, which examples never read.
        """
        how: dict[str, Any] = {"attention_blocks": self._blocks() if attention else 0, "keep_layers": self._layers()}
        if not self.config.cache_mb:
            self._cache.runs += 1
            return self.backbone.encode(pixels, **how)
        settings = (tuple(pixels.shape[1:]), self.config.position_interpolation, *how.values())
        keys = [(digest(one), *settings) for one in pixels]
        return self._cache.fetch(
            keys, lambda missing: self.backbone.encode(pixels[missing], **how), self.config.cache_mb * 1_000_000
        )

    def second(self, pictures: Sequence[Picture], look: Look = (1.0, False)) -> Tokens:
        """Tokens of the second vision model, with attention where a step needs it."""
        assert self.features is not None
        blocks = self.config.attention_blocks if self.config.step("affinity") else 0
        layers = layers_needed(self.config.fewshot.kinds)
        pixels = self._resized(pictures, self.features, look)
        return self.features.encode(pixels, attention_blocks=blocks, keep_layers=layers)

    def beside(self, pixels: Tensor, regions: Sequence[RegionSet] | None) -> Beside:
        """The second model's features of [B, 3, H, W], where dense maps read them, and the regions of the pictures."""
        return Beside(proxy_features(self.backbone, self.features, pixels, self.config), regions)

    # ---- inside ------------------------------------------------------------------------------------------------------

    def _blocks(self) -> int:
        """Blocks whose attention is kept: with words only a fusion of layers reads it."""
        fused = self.config.step("layer_fusion")
        return self.config.attention_blocks if self._whole or (fused and fused["kind"] == "early") else 0

    def _layers(self) -> tuple[int, ...]:
        """Blocks whose tokens the dense maps, the affinity and the examples read."""
        config, depth = self.config, self.backbone.depth
        wanted = needed_layers(config, depth)
        if self._whole:
            own = () if self.features is not None else layers_needed(config.fewshot.kinds)
            wanted = (*wanted, *structure_layers(config, depth), *own)
        return tuple(sorted(set(wanted)))

    def _resized(self, pictures: Sequence[Picture], model: PictureModel, look: Look) -> Tensor:
        """[B, 3, H, W] for one of the models, from the images themselves."""
        sizes = self._sizes(model)
        if look != (1.0, False):
            images: list[Image.Image] = [
                scaled(picture.image, picture.grid[0], self.backbone.patch_size, *look) for picture in pictures
            ]
            if look[0] != 1.0:
                sizes |= {"short_side": None, "long_side": None, "max_patches": None}
        else:
            images = [picture.image for picture in pictures]
        return self._moved(torch.stack([to_pixels(image, **sizes) for image in images]), model)

    def _moved(self, pixels: Tensor, model: PictureModel) -> Tensor:
        if model.device.type == "cuda":
            return pixels.pin_memory().to(model.device, non_blocking=True)
        return pixels.to(model.device)

    def _sizes(self, model: PictureModel) -> dict[str, Any]:
        """The arguments of ``to_pixels``: all that decides a picture's network input."""
        config = self.config
        most: int | None = config.max_patches
        if not self._whole:  # windows bound the memory themselves; without them the picture is one
            most = None if config.window else config.max_patches * self.backbone.patch_size**2
        return {
            "patch_size": model.patch_size if self._whole else 1, "mean": model.mean, "std": model.std,
            "short_side": config.short_side, "long_side": config.long_side, "max_patches": most,
        }  # fmt: skip

    def _made_for(self) -> tuple[Any, ...]:
        models = [model for model in (self.backbone, self.features) if model is not None]
        sizes = tuple(tuple(sorted((k, str(v)) for k, v in self._sizes(model).items())) for model in models)
        return *sizes, self.config.regions
