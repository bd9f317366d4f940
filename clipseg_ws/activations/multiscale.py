"""Agreement of several looks at one picture: maps of other sizes and of the mirrored picture, brought together.

Averaging over scales and flips is common to class activation maps; that what only one of them sees should count less is
the multi-scale attention of MainNet/SupportNet's kind, here without any training: the spread between the looks is
taken off their mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations.gradcam import min_max


def agree(looks: Sequence[Tensor], size: tuple[int, int], *, doubt: float = 0.0) -> Tensor:
    """One map out of several looks.

    Args:
        looks: V >= 1 tensors [B, K, h_v, w_v] in [0, 1], mirrored ones mirrored back already (``mirror``).
        size: (h, w) of the result; every look is resized to it bilinearly.
        doubt: how many standard deviations between the looks are taken off the mean, from 0.

    Returns:
        [B, K, h, w] float32 in [0, 1], every map stretched to a maximum of 1 (all zero where all looks are).

    Raises:
        ValueError: no look, or a negative doubt.
    """
    if not looks or doubt < 0:
        raise ValueError(f"{len(looks)} looks, doubt={doubt}; at least one look and a doubt from 0 on are needed")
    batch, count = looks[0].shape[:2]
    if not batch * count:
        return looks[0].new_zeros(batch, count, *size, dtype=torch.float32)
    stack = torch.stack([resized(look.float(), size) for look in looks])  # [V, B, K, h, w]
    merged = stack.mean(0) - doubt * stack.std(0, unbiased=False)
    return torch.unflatten(min_max(merged.clamp_min(0).flatten(2)), -1, size)


def mirror(maps: Tensor) -> Tensor:
    """Left and right exchanged, [..., w] -> the same."""
    return maps.flip(-1)


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, K, h, w] -> [B, K, *size], bilinear; antialiased where it shrinks."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    shrinks = size[0] < maps.shape[-2] or size[1] < maps.shape[-1]
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=shrinks)
