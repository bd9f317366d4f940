"""Word scores of one picture by sliding windows: how the dense zero-shot papers read a picture of any size."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipseg_ws.activations.dense import dense_embeddings
from clipseg_ws.activations.textscores import word_logits
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.config import Config
from clipseg_ws.images import resize_maps, stitch, to_pixels, window_boxes


def picture_word_logits(backbone: OpenClipBackbone, picture: Image.Image, text: Tensor, config: Config) -> Tensor:
    """Cosines of every word at every pixel of the network-sized picture: [1, T, H', W'] float32.

    The picture is resized to ``config.short_side`` and ``long_side`` (no rounding to patches), cut into windows of
    ``config.window`` pixels every ``config.stride`` (0: the picture is one window), each window's logits are enlarged
    to its size, and overlaps are averaged (SCLIP, ClearCLIP, NACLIP, ProxyCLIP).
    """
    most = None if config.window else config.max_patches * backbone.patch_size**2  # windows bound the memory themselves
    pixels = to_pixels(
        picture, patch_size=1, mean=backbone.mean, std=backbone.std, short_side=config.short_side,
        long_side=config.long_side, max_patches=most,
    )[None]  # fmt: skip
    size = (pixels.shape[2], pixels.shape[3])
    crop = config.window or max(size)
    boxes = window_boxes(size, crop, min(config.stride or crop // 2 or 1, crop))
    return stitch(_windows(backbone, pixels, boxes, text, config), boxes, size)


def _windows(
    backbone: OpenClipBackbone, pixels: Tensor, boxes: list[tuple[int, int, int, int]], text: Tensor, config: Config
) -> Iterator[Tensor]:
    """Logits [1, T, ch, cw] window by window; windows of one picture have one size and go through in batches."""
    for start in range(0, len(boxes), config.batch_size):
        crops = torch.cat([pixels[:, :, y0:y1, x0:x1] for y0, y1, x0, x1 in boxes[start : start + config.batch_size]])
        yield from window_logits(backbone, crops, text, config).split(1)


def window_logits(backbone: OpenClipBackbone, crops: Tensor, text: Tensor, config: Config) -> Tensor:
    """[B, 3, ch, cw] -> [B, T, ch, cw]. Sides that are no multiples of the patch are cut (the rest of the patch
    convolution's view), or padded with zeros on both sides and cut after enlarging (``pad_windows``, ClearCLIP)."""
    p = backbone.patch_size
    height, width = crops.shape[2:]
    top = left = 0
    if config.pad_windows or min(height, width) < p:
        rest_y, rest_x = -height % p, -width % p
        top, left = rest_y // 2, rest_x // 2
        padded = F.pad(crops, (left, rest_x - left, top, rest_y - top))
    else:
        padded = crops[:, :, : height - height % p, : width - width % p]
    tokens = backbone.encode(padded, attention_blocks=0)
    logits = word_logits(dense_embeddings(backbone, tokens, config.dense_mode), text)
    if padded.shape[2] < height or padded.shape[3] < width:
        return resize_maps(logits, (height, width))
    logits = resize_maps(logits, (padded.shape[2], padded.shape[3]))
    return logits[:, :, top : top + height, left : left + width]
