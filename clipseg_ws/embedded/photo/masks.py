"""Pseudo masks of the training pictures from their image labels: the model's own dense maps, refined by the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from clipseg_ws.embedded.losses import Walk
from clipseg_ws.embedded.photo.concepts import VOC
from clipseg_ws.embedded.photo.data import UNKNOWN, Pool
from clipseg_ws.embedded.photo.objective import Words
from clipseg_ws.refine.picture import refine_picture

SHAPES = ((3, 4), (4, 3), (1, 1))  # height to width; a picture is brought to the nearest
WORKING_SIDE = 250  # longer side of the picture that refines
CERTAIN = 0.6  # a pixel whose best share is lower stays unknown
Look = Callable[[Tensor], Walk]  # pixels [B, 3, H, W] in [0, 1] -> walk of the averaged model


def fitted_size(picture: Image.Image, short: int) -> tuple[int, int]:
    """(height, width) at a short side: one of a few shapes, so that pictures come in batches."""
    ratio = picture.height / picture.width
    tall, wide = min(SHAPES, key=lambda shape: abs(np.log(shape[0] / shape[1] / ratio)))
    small = min(tall, wide)
    return round(short * tall / small / 16) * 16, round(short * wide / small / 16) * 16


def _batches(pool: Pool, chosen: list[int], short: int, size: int = 16) -> Iterator[tuple[list[int], Tensor]]:
    """Pictures of one shape together."""
    groups: dict[tuple[int, int], list[int]] = {}
    for i in chosen:
        groups.setdefault(fitted_size(pool.pictures[i], short), []).append(i)
    for (height, width), members in groups.items():
        for start in range(0, len(members), size):
            part = members[start : start + size]
            full = part + [part[-1]] * (size - len(part))  # one shape for the compiled stem
            arrays = [np.array(pool.pictures[i].resize((width, height), Image.Resampling.BICUBIC)) for i in full]
            yield part, torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255


def dense_logits(look: Look, words: Words, scale: Tensor, pixels: Tensor) -> Tensor:
    """[B, 1 + 20, h, w]: background (log-sum-exp of its words) and VOC's names, mean with the mirrored picture."""
    total = None
    for turn in (False, True):
        walk = look(pixels.flip(-1) if turn else pixels)
        named = scale * walk.values @ words.concepts[: len(VOC)].T
        ground = scale * walk.values @ torch.cat([words.background, words.other]).T
        logits = torch.cat([ground.logsumexp(-1, keepdim=True), named], -1)
        maps = logits.transpose(1, 2).unflatten(2, walk.grid)
        total = maps if total is None else (total + maps.flip(-1)) / 2
    assert total is not None
    return total


def make_mask(picture: Image.Image, logits: Sequence[Tensor], present: list[int]) -> np.ndarray:
    """Labels uint8 [H, W] (0 background, 1 to 20, 255 unknown) of one picture: scales averaged, PAR, softmax shares."""
    size = (picture.height, picture.width)
    rows = torch.tensor([0, *(c + 1 for c in present)])
    maps = [F.interpolate(one[rows][None], size=size, mode="bilinear", align_corners=False) for one in logits]
    shares = torch.stack(maps).mean(0).softmax(1)
    image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    best, place = refine_picture("par", shares, image, max_side=WORKING_SIDE)[0].max(0)
    labels = rows[place].to(torch.uint8)
    labels[best < CERTAIN] = UNKNOWN
    return np.asarray(labels.numpy())


@torch.no_grad()
def pseudo_masks(
    pool: Pool, look: Look, words: Words, scale: Tensor, shorts: Sequence[int], tell: Callable[[int], object]
) -> dict[int, np.ndarray]:
    """Masks of all pictures of VOC with a class; ``tell(n)`` after every n pictures."""
    chosen = [i for i in range(pool.voc) if pool.present[i, : len(VOC)].any()]
    logits: dict[int, list[Tensor]] = {i: [] for i in chosen}
    for short in shorts:
        for part, pixels in _batches(pool, chosen, short):
            for i, maps in zip(part, dense_logits(look, words, scale, pixels), strict=False):
                logits[i].append(maps.half())
            tell(len(part))
    threads, masks = torch.get_num_threads(), {}

    def one(i: int) -> tuple[int, np.ndarray]:
        present = torch.nonzero(pool.present[i, : len(VOC)]).flatten().tolist()
        return i, make_mask(pool.pictures[i], [m.float() for m in logits[i]], present)

    torch.set_num_threads(1)  # a picture is too small for two threads: two pictures at a time
    try:
        with ThreadPoolExecutor(threads) as workers:
            for i, mask in workers.map(one, chosen):
                masks[i] = mask
                tell(1)
    finally:
        torch.set_num_threads(threads)
    return masks
