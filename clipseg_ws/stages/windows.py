"""Word scores of one picture by sliding windows: how the dense zero-shot papers read a picture of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipseg_ws.activations.textscores import word_logits
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.config import Config
from clipseg_ws.pictures.images import to_pixels
from clipseg_ws.pictures.sizes import resize_maps
from clipseg_ws.pictures.windows import stitch, window_boxes
from clipseg_ws.stages.dense import needed_layers, patch_embeddings, proxy_features, repaired

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Windows:
    """A picture at network size and where its windows lie.

    Attributes:
        pixels: [1, 3, H', W'] normalised. boxes: (y0, y1, x0, x1), all of one size.
    """

    pixels: Tensor
    boxes: list[Box]

    @property
    def size(self) -> tuple[int, int]:
        """(H', W')."""
        return self.pixels.shape[2], self.pixels.shape[3]


def cut(backbone: OpenClipBackbone, picture: Image.Image, config: Config) -> Windows:
    """The picture resized to ``config.short_side`` and ``long_side`` (no rounding to patches), and windows of
    ``config.window`` pixels every ``config.stride`` (0: the picture is one window)."""
    most = None if config.window else config.max_patches * backbone.patch_size**2  # windows bound the memory themselves
    pixels = to_pixels(
        picture, patch_size=1, mean=backbone.mean, std=backbone.std, short_side=config.short_side,
        long_side=config.long_side, max_patches=most,
    )[None]  # fmt: skip
    size = (pixels.shape[2], pixels.shape[3])
    crop = config.window or max(size)
    return Windows(pixels, window_boxes(size, crop, min(config.stride or crop // 2 or 1, crop)))


def picture_word_logits(
    backbone: OpenClipBackbone, picture: Image.Image, text: Tensor, config: Config, features: Any = None
) -> Tensor:
    """Cosines of every word at every pixel of the network-sized picture: [1, T, H', W'] float32.

    Each window's logits are enlarged to its size, and overlaps are averaged (SCLIP, ClearCLIP, NACLIP, ProxyCLIP).
    ``features``: the second vision model that "proxy" reads.
    """
    windows = cut(backbone, picture, config)
    batches = patch_logits(backbone, windows, text, config, features)
    return stitch(enlarged(batches), windows.boxes, windows.size)


Enlarge = Callable[[Tensor], Tensor]  # [B, T, h, w] -> [B, T, ch, cw]


def patch_logits(
    backbone: OpenClipBackbone, windows: Windows, text: Tensor, config: Config, features: Any = None
) -> Iterator[tuple[Tensor, Enlarge]]:
    """Logits [B, T, h, w] batch of windows by batch, each with what brings them to the windows' size."""
    for start in range(0, len(windows.boxes), config.batch_size):
        part = windows.boxes[start : start + config.batch_size]
        crops = torch.cat([windows.pixels[:, :, y0:y1, x0:x1] for y0, y1, x0, x1 in part])
        yield _crop_logits(backbone, crops, text, config, features)


def enlarged(batches: Iterator[tuple[Tensor, Enlarge]]) -> Iterator[Tensor]:
    """[1, T, ch, cw] window by window."""
    for logits, enlarge in batches:
        for row in logits.split(1):  # one window at a time: pixels take far more memory than patches
            yield enlarge(row)


def _crop_logits(
    backbone: OpenClipBackbone, crops: Tensor, text: Tensor, config: Config, features: Any
) -> tuple[Tensor, Enlarge]:
    """[B, 3, ch, cw] -> [B, T, h, w]. Sides that are no multiples of the patch are cut (the rest of the patch
    convolution's view), or padded with zeros on both sides and cut after enlarging (``pad_windows``, ClearCLIP)."""
    p = backbone.patch_size
    height, width = crops.shape[2:]
    top = left = 0
    if config.pad_windows or min(height, width) < p:
        rest_y, rest_x = -height % p, -width % p
        top, left = rest_y // 2, rest_x // 2
        seen = F.pad(crops, (left, rest_x - left, top, rest_y - top))
    else:
        seen = crops[:, :, : height - height % p, : width - width % p]
    blocks = config.attention_blocks if config.layer_fusion == "early" else 0
    tokens = backbone.encode(seen, attention_blocks=blocks, keep_layers=needed_layers(config, backbone.depth))
    proxy = proxy_features(backbone, features, seen, config)
    logits = word_logits(patch_embeddings(backbone, repaired(tokens, config), config, proxy), text)
    full = (max(seen.shape[2], height), max(seen.shape[3], width))

    def enlarge(values: Tensor) -> Tensor:
        return resize_maps(values, full)[:, :, top : top + height, left : left + width]

    return logits, enlarge
