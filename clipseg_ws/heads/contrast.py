"""Contrast between regions and between pixels and prototypes, on a head's embedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.heads.losses import no_loss, unit


def region_vectors(embedding: Tensor, labels: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean embedding of every label in every picture that has it.

    Args:
        embedding: [B, F, h, w]. labels: [B, h, w] int64. weights: [B, h, w], 0 leaves a pixel out. count: 1 + C.

    Returns:
        vectors [R, F], their labels [R], their pictures [R].
    """
    hot = F.one_hot(labels.clamp(0, count - 1), count).float() * (weights * (labels < count))[..., None]  # [B, h, w, K]
    hot = hot.flatten(1, 2)  # [B, N, K]
    mass = hot.sum(1)  # [B, K]
    means = hot.transpose(1, 2) @ embedding.float().flatten(2).transpose(1, 2)  # [B, K, F]
    picture, label = (mass > 0).nonzero(as_tuple=True)
    return means[picture, label] / mass[picture, label, None], label, picture


def region_contrast(
    embedding: Tensor, labels: Tensor, weights: Tensor, count: int, *, temperature: float = 0.2
) -> Tensor:
    """Regions of one class in different pictures alike, of different classes unlike.

    The region contrast module of MainNet/SupportNet as supervised InfoNCE: for a region the mean over its positives
    (same label, other picture) of -log softmax of the cosine over all other regions; then the mean over the regions
    that have a positive. Arguments as for ``region_vectors``. Scalar float32, 0 without any pair.
    """
    vectors, label, _ = region_vectors(embedding, labels, weights, count)
    same = label[:, None] == label[None]
    same.fill_diagonal_(False)  # a label occurs once a picture, so equals lie in other pictures
    if not same.any():
        return no_loss(embedding)
    vectors = unit(vectors)
    logits = (vectors @ vectors.t() / temperature).masked_fill(
        torch.eye(len(label), dtype=torch.bool, device=label.device), float("-inf")
    )
    log = logits.log_softmax(1).masked_fill(~same, 0)
    positives = same.sum(1)
    return -(log.sum(1)[positives > 0] / positives[positives > 0]).mean()


def class_prototypes(
    embedding: Tensor, labels: Tensor, weights: Tensor, count: int, *, top: int = 32
) -> tuple[Tensor, Tensor]:
    """A unit vector for each label: the mean of the ``top`` pixels of the batch that weigh most, by weight (PPC).

    Returns prototypes [1+C, F] (zero for labels that do not occur) and which occur, bool [1+C].
    """
    pixels = unit(embedding).movedim(1, -1).flatten(0, 2)  # [B*N, F]
    labels, weights = labels.flatten(), weights.flatten()
    rows = []
    for c in range(count):
        mine = ((labels == c) & (weights > 0)).nonzero().flatten()
        best = mine[weights[mine].topk(min(top, len(mine))).indices]
        rows.append((pixels[best] * weights[best, None]).sum(0))
    prototypes = torch.stack(rows)
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
    if there.sum() < 2:
        return no_loss(embedding)
    logits = torch.einsum("bfhw,kf->bkhw", unit(embedding), prototypes) / temperature
    logits = logits.masked_fill(~there[None, :, None, None], float("-inf"))
    losses = F.cross_entropy(logits, labels.masked_fill(counted <= 0, 255), ignore_index=255, reduction="none")
    return (losses * counted).sum() / counted.sum().clamp_min(1e-6)
