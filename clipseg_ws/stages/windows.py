"""Word scores of pictures by sliding windows: how the dense zero-shot papers read a picture of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations import DENSE_MODES
from clipseg_ws.activations.textscores import word_logits
from clipseg_ws.config import Config
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.sizes import resize_maps
from clipseg_ws.pictures.windows import stitch, window_boxes
from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.stages.dense import patch_embeddings, repaired
from clipseg_ws.stages.encoder import Encoder

Box = tuple[int, int, int, int]
Enlarge = Callable[[Tensor], Tensor]  # [B, T, h, w] -> [B, T, ch, cw]


@dataclass(frozen=True, eq=False)
class Windows:
    """Pictures at network size and where their windows lie.

    Attributes:
        pixels: [B, 3, H', W'] normalised. boxes: (y0, y1, x0, x1), all of one size, the same for all pictures.
        regions: of each picture at network size, None where dense maps read none.
    """

    pixels: Tensor
    boxes: list[Box]
    regions: list[RegionSet] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H', W')."""
        return self.pixels.shape[2], self.pixels.shape[3]


def cut(encoder: Encoder, pictures: Sequence[Picture]) -> Windows:
    """Pictures of one network size, and windows of ``config.window`` pixels every ``config.stride`` (0: the picture is
    one window)."""
    config, pixels = encoder.config, encoder.pixels(pictures)
    size = (pixels.shape[2], pixels.shape[3])
    crop = config.window or max(size)
    boxes = window_boxes(size, crop, min(config.stride or crop // 2 or 1, crop))
    regions = encoder.regions(pictures) if DENSE_MODES[config.dense_mode].about.get("regions") else None
    return Windows(pixels, boxes, None if regions is None else [r.resized(size) for r in regions])


def picture_word_logits(encoder: Encoder, pictures: Sequence[Picture], text: Tensor) -> Tensor:
    """Cosines of every word [T, E] at every pixel of the network-sized pictures: [B, T, H', W'] float32.

    Each window's logits are enlarged to its size, and overlaps are averaged (SCLIP, ClearCLIP, NACLIP, ProxyCLIP).
    """
    windows = cut(encoder, pictures)
    return stitch(enlarged(patch_logits(encoder, windows, text), len(pictures)), windows.boxes, windows.size)


def patch_logits(encoder: Encoder, windows: Windows, text: Tensor) -> Iterator[tuple[Tensor, Enlarge]]:
    """Logits [b, T, h, w] batch of windows by batch, each with what brings them to the windows' size.

    Windows come box by box, all pictures of a box after one another, about ``config.batch_size`` of them together. On
    a GPU, which small batches leave idle, more: as many boxes as have ``config.max_patches`` patches.
    """
    step = max(1, encoder.config.batch_size // len(windows.pixels))
    if windows.pixels.device.type != "cpu":
        y0, y1, x0, x1 = windows.boxes[0]
        patches = max(1, (y1 - y0) * (x1 - x0) // encoder.backbone.patch_size**2)
        step = max(step, encoder.config.max_patches // patches)
    for start in range(0, len(windows.boxes), step):
        part = windows.boxes[start : start + step]
        crops = torch.cat([windows.pixels[:, :, y0:y1, x0:x1] for y0, y1, x0, x1 in part])
        sets = None if windows.regions is None else [r.cropped(*box) for box in part for r in windows.regions]
        yield _crop_logits(encoder, crops, text, sets)


def enlarged(batches: Iterable[tuple[Tensor, Enlarge]], pictures: int) -> Iterator[Tensor]:
    """[B, T, ch, cw] box by box: one box at a time, since pixels take far more memory than patches."""
    for logits, enlarge in batches:
        for box in torch.split(logits, pictures):
            yield enlarge(box)


def _crop_logits(
    encoder: Encoder, crops: Tensor, text: Tensor, regions: list[RegionSet] | None = None
) -> tuple[Tensor, Enlarge]:
    """[B, 3, ch, cw] -> [B, T, h, w]. Sides that are no multiples of the patch are cut (the rest of the patch
    convolution's view), or padded with zeros on both sides and cut after enlarging (``pad_windows``, ClearCLIP)."""
    config: Config = encoder.config
    p = encoder.backbone.patch_size
    height, width = crops.shape[2:]
    top = left = 0
    if config.pad_windows or min(height, width) < p:
        rest_y, rest_x = -height % p, -width % p
        top, left = rest_y // 2, rest_x // 2
        seen = F.pad(crops, (left, rest_x - left, top, rest_y - top))
    else:
        seen = crops[:, :, : height - height % p, : width - width % p]
    tokens = repaired(encoder.clip(seen), config)
    if regions is not None:
        regions = [r.cropped(-top, seen.shape[2] - top, -left, seen.shape[3] - left) for r in regions]
    beside = encoder.beside(seen, regions)
    logits = word_logits(patch_embeddings(encoder.backbone, tokens, config, beside), text)
    full = (max(seen.shape[2], height), max(seen.shape[3], width))

    def enlarge(values: Tensor) -> Tensor:
        return resize_maps(values, full)[:, :, top : top + height, left : left + width]

    return logits, enlarge
