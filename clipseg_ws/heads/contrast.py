"""Contrast between regions and between pixels and prototypes, on a head's embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.heads.losses import unit

FEW = 4096  # pictures x labels that are compared as they are, the absent ones masked; the GPU is not asked then
_TINY = 1e-12


def region_vectors(embedding: Tensor, labels: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean embedding of every label in every picture.

    Args:
        embedding: [B, F, h, w]. labels: [B, h, w] int64. weights: [B, h, w], 0 leaves a pixel out. count: 1 + C.

    Returns:
        vectors [R, F], their labels [R], and bool [R], which of them the picture has; R = B (1 + C), or without the
        absent ones where that is more than ``FEW``.
    """
    hot = F.one_hot(labels.clamp(0, count - 1), count).float() * (weights * (labels < count))[..., None]  # [B, h, w, K]
    hot = hot.flatten(1, 2)  # [B, N, K]
    mass = hot.sum(1)  # [B, K]
    means = hot.transpose(1, 2) @ embedding.float().flatten(2).transpose(1, 2)  # [B, K, F]
    vectors, mass = means.flatten(0, 1), mass.flatten()
    label = torch.arange(count, device=labels.device).repeat(len(labels))
    if len(label) > FEW:
        rows = (mass > 0).nonzero().flatten()
        vectors, mass, label = vectors[rows], mass[rows], label[rows]
    return vectors / mass.clamp_min(_TINY)[:, None], label, mass > 0


def region_contrast(
    embedding: Tensor, labels: Tensor, weights: Tensor, count: int, *, temperature: float = 0.2
) -> Tensor:
    """Regions of one class in different pictures alike, of different classes unlike.

    The region contrast module of MainNet/SupportNet as supervised InfoNCE: for a region the mean over its positives
    (same label, other picture) of -log softmax of the cosine over all other regions; then the mean over the regions
    that have a positive. Arguments as for ``region_vectors``. Scalar float32, 0 without any pair.
    """
    vectors, label, there = region_vectors(embedding, labels, weights, count)
    others = there[:, None] & there[None] & ~torch.eye(len(label), dtype=torch.bool, device=label.device)
    same = others & (label[:, None] == label[None])  # a label occurs once a picture, so equals lie in other pictures
    vectors = unit(vectors)
    # rows without any other are nan, and masked: no gradient passes
    log = (vectors @ vectors.t() / temperature).masked_fill(~others, float("-inf")).log_softmax(1).masked_fill(~same, 0)
    positives = same.sum(1)
    return -(log.sum(1) / positives.clamp_min(1)).sum() / (positives > 0).sum().clamp_min(1)


def class_prototypes(
    embedding: Tensor, labels: Tensor, weights: Tensor, count: int, *, top: int = 32
) -> tuple[Tensor, Tensor]:
    """A unit vector for each label: the mean of the ``top`` pixels of the batch that weigh most, by weight (PPC).

    Returns prototypes [1+C, F] (zero for labels that do not occur) and which occur, bool [1+C].
    """
    pixels = unit(embedding).movedim(1, -1).flatten(0, 2)  # [B*N, F]
    labels, weights = labels.flatten(), weights.flatten()
    mine = labels[None] == torch.arange(count, device=labels.device)[:, None]  # [1+C, B*N]
    best = torch.where(mine, weights.clamp_min(0), 0.0).topk(min(top, len(labels)), dim=1)  # 0: another label's
    prototypes = (pixels[best.indices] * best.values[..., None]).sum(1)
    return F.normalize(prototypes, dim=1), prototypes.abs().sum(1) > 0


def prototype_contrast(
    embedding: Tensor, labels: Tensor, weights: Tensor, count: int, *, temperature: float = 0.1, top: int = 32
) -> Tensor:
    """Pixel-to-prototype contrast (PPC; Du et al., CVPR 2022, arXiv 2110.07110).

    Weighted mean over the pixels of -log softmax over the labels that occur of cosine(pixel, prototype) / temperature,
    at the pixel's own label; the prototypes are not differentiated. Scalar float32, 0 with fewer than two labels.
    """
    with torch.no_grad():
        prototypes, there = class_prototypes(embedding, labels, weights, count, top=top)
    counted = weights * (labels < count)
    logits = torch.einsum("bfhw,kf->bkhw", unit(embedding), prototypes) / temperature
    logits = logits.masked_fill(~there[None, :, None, None], float("-inf"))
    losses = F.cross_entropy(logits, labels.masked_fill(counted <= 0, 255), ignore_index=255, reduction="none")
    return (losses * counted).sum() / counted.sum().clamp_min(1e-6)
