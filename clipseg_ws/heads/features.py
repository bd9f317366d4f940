"""Which tokens a head reads, and how a picture becomes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipseg_ws.activations.last_block import forward_last_block
from clipseg_ws.activations.multiscale import resized
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.pictures.images import to_pixels
from clipseg_ws.pictures.sizes import target_size
from clipseg_ws.structures import Tokens


@dataclass(frozen=True)
class FeatureSpec:
    """All that decides the tokens of a picture, besides the backbone.

    Attributes:
        blocks: backbone blocks whose output is read, 0-based; -1 is the last one.
        short_side, long_side, max_patches, position_interpolation: as in ``Config``.
        more_scales: multiples of that size at which the picture is read too, their tokens beside the first ones.

    Raises:
        ValueError: a scale outside [0.25, 4], a repeated one, or 1.
    """

    blocks: tuple[int, ...] = (-3, -2, -1)
    short_side: int | None = None
    long_side: int | None = None
    max_patches: int | None = 2304
    position_interpolation: str = "bicubic"
    more_scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        scales = self.more_scales
        if len({1.0, *scales}) != len(scales) + 1 or not all(0.25 <= scale <= 4 for scale in scales):
            raise ValueError(
                f"more_scales={scales}; different numbers from 0.25 to 4, none of them 1, are needed, for example "
                "(0.667,)"
            )

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"blocks": list(self.blocks), "more_scales": list(self.more_scales)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureSpec:
        """Of ``as_dict``."""
        tuples: dict[str, Any] = {key: tuple(values[key]) for key in ("blocks", "more_scales") if key in values}
        return cls(**values | tuples)

    @property
    def count(self) -> int:
        """L, how many tokens a patch has: one a block and scale."""
        return len(self.blocks) * (1 + len(self.more_scales))

    def resolved(self, depth: int) -> tuple[int, ...]:
        """The blocks as 0-based numbers, in order, for a backbone of ``depth`` blocks.

        Raises ValueError for none, a repeated one, or one that the backbone does not have.
        """
        numbers = [b + depth if b < 0 else b for b in self.blocks]
        if not numbers or any(not 0 <= b < depth for b in numbers) or len(set(numbers)) < len(numbers):
            raise ValueError(
                f"blocks={self.blocks}; different blocks from 0 to {depth - 1} (or -{depth} to -1) are needed, for "
                "example (-3, -2, -1)"
            )
        return tuple(sorted(numbers))


def pixel_batch(backbone: Backbone, pictures: Sequence[Image.Image], spec: FeatureSpec) -> Tensor:
    """Pictures of one grid -> [B, 3, H', W'] for the backbone."""
    return torch.stack([
        to_pixels(picture, patch_size=backbone.patch_size, mean=backbone.mean, std=backbone.std,
                  short_side=spec.short_side, long_side=spec.long_side, max_patches=spec.max_patches)
        for picture in pictures
    ])  # fmt: skip


def grid_of(backbone: Backbone, size: tuple[int, int], spec: FeatureSpec) -> tuple[int, int]:
    """Patch grid (h, w) of a picture of ``size`` (width, height)."""
    p = backbone.patch_size
    height, width = target_size(*size, p, spec.short_side, spec.long_side, spec.max_patches)
    return height // p, width // p


def encode_features(backbone: Backbone, pixels: Tensor, spec: FeatureSpec) -> Tensor:
    """Pixels [B, 3, H', W'] -> patch tokens [B, L, D, h, w], the blocks in ascending order, scale by scale."""
    return encode_tokens(backbone, pixels, spec)[0]


@torch.no_grad()
def encode_tokens(
    backbone: Backbone, pixels: Tensor, spec: FeatureSpec, *, attention_blocks: int = 0,
    keep_layers: Sequence[int] = (),
) -> tuple[Tensor, Tokens]:  # fmt: skip
    """``encode_features``, and the ``Tokens`` of the first scale's pass with attention and layers as
    ``backbone.encode``."""
    backbone = backbone.with_positions(spec.position_interpolation)
    features, tokens = _one_scale(backbone, pixels, spec, attention_blocks, keep_layers)
    parts = [features]
    for scale in spec.more_scales:
        size = [max(1, round(side * scale)) * backbone.patch_size for side in tokens.grid]
        seen = F.interpolate(pixels, size=size, mode="bicubic", align_corners=False, antialias=True)
        more = _one_scale(backbone, seen, spec)[0]
        more = torch.unflatten(resized(more.float().flatten(1, 2), tokens.grid), 1, more.shape[1:3])
        parts.append(more.to(features.dtype))
    return torch.cat(parts, 1), tokens


def _one_scale(
    backbone: Backbone, pixels: Tensor, spec: FeatureSpec, attention_blocks: int = 0,
    keep_layers: Sequence[int] = (),
) -> tuple[Tensor, Tokens]:  # fmt: skip
    """Tokens of the spec's blocks [B, L, D, h, w] from one forward pass, and that pass."""
    blocks = spec.resolved(backbone.depth)
    last = backbone.depth - 1
    kept = sorted({*keep_layers, *blocks} - {last})
    tokens = backbone.encode(pixels, attention_blocks=attention_blocks, keep_layers=kept)
    layers = [tokens.layers[b] for b in blocks if b < last]
    if blocks[-1] == last:
        layers.append(forward_last_block(backbone, tokens.last_input, tokens.last).out[:, 1:])
    # L x [B, N, D] -> [B, L, N, D] -> [B, L, D, h, w]
    return torch.unflatten(torch.stack(layers, 1).transpose(2, 3), -1, tokens.grid), tokens


def shrink_target(values: Any, size: tuple[int, ...]) -> Any:
    """A label map, confidence map or mask, numpy [H, W], at ``size`` (h, w): the nearest pixel, nothing is mixed."""
    if values.shape == tuple(size):
        return values
    picture = Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.NEAREST)
    import numpy as np

    return np.asarray(picture)
