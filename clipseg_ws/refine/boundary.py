"""Boundaries by multiple-instance learning, and maps spread up to them.

Between two patches that surely belong to different classes lies at least one boundary patch, on the way between two of
one class lies none (Ahn et al., "Weakly supervised learning of instance segmentation with inter-pixel relations", CVPR
2019, arXiv 1904.05044). The way is a bag, of which the largest boundary speaks. Where the paper trains a network, here
every picture's boundary map starts from the edges of its frozen features and is fitted to its own sure patches.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.structures import IGNORE

_TINY = 1e-4
RATE = 0.3  # of Adam
STAY = 0.02  # how much a logit that leaves its start costs
SHARPNESS = 8.0  # power of what a way lets through


def boundary_map(
    features: Tensor, labels: Tensor, *, radius: int = 3, steps: int = 30, start: Tensor | None = None
) -> Tensor:
    """[B, h, w] in (0, 1): how far every patch is a boundary.

    Args:
        features: [B, D, h, w]. labels: [B, h, w] int64, the class of sure patches, 255 elsewhere.
        radius: longest way, in patches. steps: of the fit; 0 gives the edges of the features alone.
        start: [B, h, w] in (0, 1) instead of ``edges(features)``.
    """
    first = edges(features) if start is None else start
    with torch.inference_mode(False), torch.enable_grad():
        begun = torch.logit(first.detach().clone(), _TINY)
        known = labels.detach().clone()
        logits, mean, square = begun, torch.zeros_like(begun), torch.zeros_like(begun)
        for number in range(1, steps + 1):
            logits = logits.detach().requires_grad_()
            loss = bag_loss(logits.sigmoid(), known, radius) + STAY * (logits - begun).square().mean((1, 2))
            (slope,) = torch.autograd.grad(loss.sum(), logits)  # every picture for itself
            mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope.square()
            size = (square / (1 - 0.999**number)).sqrt() + 1e-8
            logits = logits - RATE * mean / (1 - 0.9**number) / size
    return logits.detach().sigmoid()


def edges(features: Tensor) -> Tensor:
    """[B, h, w] in (0, 1): how unlike a patch is to its four neighbours, compared within the picture."""
    unit = F.normalize(features.float(), dim=1)
    near = F.pad(unit, (1, 1, 1, 1), mode="replicate")
    shifted = (near[..., :-2, 1:-1], near[..., 2:, 1:-1], near[..., 1:-1, :-2], near[..., 1:-1, 2:])
    unlike = torch.stack([1 - (unit * other).sum(1) for other in shifted]).amax(0)  # [B, h, w]
    flat = unlike.flatten(1)
    centred = (unlike - flat.mean(1)[:, None, None]) / flat.std(1).clamp_min(_TINY)[:, None, None]
    return (centred - 1).sigmoid()


def bag_loss(boundary: Tensor, labels: Tensor, radius: int) -> Tensor:
    """[B]: half of the mean -log of the bags between two classes, half of the mean -log(1 - ...) of those within one;
    0 for a half without bags."""
    sums = [boundary.new_zeros(len(boundary)) for _ in range(4)]  # within and between: losses, then how many
    for start, end, largest in ways(boundary, radius):
        a, b = _part(labels, start), _part(labels, end)
        known = (a != IGNORE) & (b != IGNORE)
        for half, (chosen, open_) in enumerate(((known & (a == b), 1 - largest), (known & (a != b), largest))):
            sums[half] = sums[half] - (open_.clamp_min(_TINY).log() * chosen).sum((1, 2))
            sums[2 + half] = sums[2 + half] + chosen.sum((1, 2))
    return (sums[0] / sums[2].clamp_min(1) + sums[1] / sums[3].clamp_min(1)) / 2


Window = tuple[int, int, int, int]  # top, left, height, width


def ways(boundary: Tensor, radius: int) -> Iterator[tuple[Window, Window, Tensor]]:
    """Every pair of patches at most ``radius`` apart, by offset: where they start, where they end, and the largest
    boundary on the straight way between them, both ends included, [B, height, width]."""
    h, w = boundary.shape[-2:]
    for dy in range(radius + 1):
        for dx in range(-radius, radius + 1):
            if (dy == 0 and dx <= 0) or dy * dy + dx * dx > radius * radius or dy >= h or abs(dx) >= w:
                continue
            top, left, height, width = 0, max(0, -dx), h - dy, w - abs(dx)
            count = max(dy, abs(dx))
            cells = [(round(dy * i / count), round(dx * i / count)) for i in range(count + 1)]
            parts = [_part(boundary, (top + y, left + x, height, width)) for y, x in cells]
            yield (top, left, height, width), (top + dy, left + dx, height, width), torch.stack(parts).amax(0)


def spread_to_boundaries(maps: Tensor, boundary: Tensor, *, radius: int = 3, rounds: int = 8) -> Tensor:
    """Maps [B, K, h, w] after ``rounds`` steps of a random walk whose ways let (1 - largest boundary)^8 through; every
    map keeps its largest value."""
    h, w = maps.shape[-2:]
    index = torch.arange(h * w, device=maps.device).view(1, h, w)
    walk = torch.eye(h * w, device=maps.device).repeat(len(maps), 1, 1)
    for start, end, largest in ways(boundary, radius):
        a, b = _part(index, start).flatten(), _part(index, end).flatten()
        open_ = (1 - largest).flatten(1) ** SHARPNESS
        walk[:, a, b] = open_
        walk[:, b, a] = open_
    walk = walk / walk.sum(2, keepdim=True)
    flat = maps.float().flatten(2).transpose(1, 2)  # [B, N, K]
    top = flat.amax(1, keepdim=True)
    for _ in range(rounds):
        flat = walk @ flat
    flat = flat * top / flat.amax(1, keepdim=True).clamp_min(_TINY)
    return torch.unflatten(flat.transpose(1, 2), 2, (h, w))


def sure_labels(maps: Tensor, sure: float, unsure: float) -> Tensor:
    """[B, h, w] int64: 1 + the class whose map reaches ``sure`` of its own largest value, 0 where all stay below
    ``unsure`` of it, else 255; maps [B, K, h, w]."""
    share = maps / maps.amax((-2, -1), keepdim=True).clamp_min(_TINY)
    best, owner = share.max(1)
    return torch.where(best >= sure, owner + 1, torch.where(best < unsure, 0, IGNORE))


def _part(values: Tensor, window: Window) -> Tensor:
    top, left, height, width = window
    return values[..., top : top + height, left : left + width]
