"""The convolutional stem of a hybrid model as a second model: what ImageNet taught a CNN, for matching pictures.

Few-shot segmentation was published on such features (PANet, Wang et al., ICCV 2019; PFENet, Tian et al., TPAMI 2020;
HSNet, Min et al., ICCV 2021): several strides of a frozen ImageNet network, compared by the cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.backbones.common import cast, check_layers, check_pixels, weights_digest
from clipseg_ws.backbones.errors import UnsupportedBackbone
from clipseg_ws.backbones.families import parse_name
from clipseg_ws.backbones.hybrid import PATCH, STEMS, STRIDES, ConvStem
from clipseg_ws.backbones.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from clipseg_ws.structures import Tokens


class StemFeatures:
    """A frozen ``hybrid.ConvStem`` as a source of patch features, a ``protocol.PictureModel``.

    Its tokens are on patches of 16 pixels: features of stride 8 averaged over 2 x 2, of stride 16 as they are, of
    stride 32 enlarged bilinearly; each of unit length, joined. So the cosine of two tokens is the mean of the cosines
    of the three strides. Layers 0, 1 and 2 are strides 8, 16 and 32 alone. There is no attention.

    Args:
        stem: put into eval mode and frozen, not copied. Its projection for the transformer is not used.
        name: what it was loaded by. mean, std: RGB normalisation of pixels in [0, 1].

    Example:
        >>> model = StemFeatures(ConvStem("tf_efficientnet_lite0", 32))
        >>> model.encode(torch.zeros(1, 3, 64, 96)).last_input.shape  # 40 + 112 + 1280 channels
        torch.Size([1, 25, 1432])
    """

    def __init__(
        self, stem: ConvStem, *, name: str = "custom", mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:  # fmt: skip
        self.stem = stem.eval().requires_grad_(False)
        self.name = name
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.patch_size, self.depth = PATCH, len(STRIDES)
        self.width = sum(STEMS[stem.name][1])
        self.position_interpolation = "own"

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.stem.project.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights (batch norms may stay float32); pixels are cast to it."""
        return self.stem.project.weight.dtype

    @cached_property
    def weights_sha256(self) -> str:
        """Of the convolutional network alone, see ``common.weights_digest``."""
        return weights_digest(self.stem.trunk)

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move all weights to ``device`` in ``dtype``; batch norms stay float32."""
        if device.type != "cpu" or dtype != torch.float32:
            _ = self.weights_sha256  # on the host and before the cast: the same weights have one name in every dtype
        self.stem.to(device, torch.float32)
        if dtype != torch.float32:
            cast(self.stem, dtype)

    @torch.no_grad()
    def encode(self, pixels: Tensor, *, attention_blocks: int = 8, keep_layers: Sequence[int] = ()) -> Tokens:
        """Features of pictures.

        Args:
            pixels: [B, 3, H, W] normalised; H and W multiples of 16.
            attention_blocks: nothing here has attention; whoever needs it is told so.
            keep_layers: 0, 1, 2: strides 8, 16, 32, each [B, N, C] of unit length on the grid of patches.

        Returns:
            ``Tokens`` whose ``last_input`` is [B, 1+N, D], the mean patch first; ``attention`` is None.

        Raises:
            ValueError: sizes or indices out of range.
        """
        check_pixels(pixels, PATCH, f" of {self.name}")
        check_layers(keep_layers, self.depth, f" of {self.name}")
        x8, x16, x32 = self.stem.features(pixels.to(self.device, self.dtype))
        grid = (int(x16.shape[2]), int(x16.shape[3]))
        x32 = F.interpolate(x32, size=grid, mode="bilinear", align_corners=False)
        levels = [_unit_rows(level) for level in (F.avg_pool2d(x8, 2), x16, x32)]
        patches = torch.cat(levels, -1)
        tokens = torch.cat([patches.mean(1, keepdim=True), patches], 1)
        return Tokens(tokens, None, {i: levels[i] for i in keep_layers}, grid)


def load_stem(model: str, *, name: str, offline: bool = False) -> StemFeatures:
    """The stem of a model by its name in ``FAMILIES``: "photo", "local-dir:PATH". ``name`` is what was asked for.

    Raises:
        UnsupportedBackbone: the model has no convolutional stem.
        FileNotFoundError, ValueError: as ``backbones.load_backbone`` for that model.
    """
    entry, rest = parse_name(model)
    checkpoint = entry.load()(rest, offline=offline) if entry.about.get("hybrid") else None
    stem = getattr(getattr(getattr(checkpoint, "model", None), "visual", None), "conv1", None)
    if checkpoint is None or not isinstance(stem, ConvStem):
        raise UnsupportedBackbone(
            f"features {name!r}: the model {model!r} has no convolutional stem; a hybrid model is needed, for example "
            "'photo:stem'"
        )
    return StemFeatures(stem, name=name, mean=checkpoint.mean, std=checkpoint.std)


def _unit_rows(level: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, N, C] of unit length, row by row, in the same dtype."""
    return F.normalize(level.flatten(2).transpose(1, 2).float(), dim=-1).to(level.dtype)
