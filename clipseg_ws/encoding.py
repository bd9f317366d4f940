"""Pictures to tokens as the configuration asks, and what identifies such tokens in a cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.better_maps import structure_layers
from clipseg_ws.config import Config
from clipseg_ws.images import to_pixels
from clipseg_ws.structures import Tokens

SIZES = ("short_side", "long_side", "max_patches")


def encode_pictures(
    backbone: OpenClipBackbone, pictures: Sequence[Image.Image], config: Config, resize: bool = True
) -> Tokens:
    """Tokens of pictures of one grid: resized as the configuration says, or not (sides are then whole patches)."""
    limits: dict[str, Any] = {key: getattr(config, key) for key in SIZES if resize}
    pixels = torch.stack([
        to_pixels(picture, patch_size=backbone.patch_size, mean=backbone.mean, std=backbone.std, **limits)
        for picture in pictures
    ])  # fmt: skip
    layers = structure_layers(config, backbone.depth)
    return backbone.encode(pixels, attention_blocks=config.attention_blocks, keep_layers=layers)


def picture_key(picture: Image.Image, config: Config, depth: int, resize: bool = True) -> tuple:
    """What the tokens of a picture depend on, for one backbone of ``depth`` blocks."""
    digest = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
    sizes = [getattr(config, key) for key in SIZES] if resize else []
    layers = structure_layers(config, depth)
    return (digest, picture.size, *sizes, config.position_interpolation, config.attention_blocks, layers)
