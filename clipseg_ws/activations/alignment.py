"""Alignment check: can a support be segmented from the query's own prediction? (PANet, Wang et al., ICCV 2019, arXiv
1908.06391.) PANet trains with it; without training it tells for every support how far it can be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from clipseg_ws.activations.prototypes import EPS, cosine
from clipseg_ws.structures import IGNORE


@dataclass(frozen=True, eq=False)
class Alignment:
    """Supports segmented from B queries.

    Attributes:
        logits: [B, S, 2, h, w] scale x cosine with (background, the support's class) of the query's prediction.
        loss: [B, S] mean cross-entropy at mask size over the pixels in one of the two masks.
        iou: [B, S] foreground IoU in [0, 1] at mask size; 0 where the class is absent from the query's labels.
        present: [B, S] bool, the support's class occurs in the query's labels.
        prototypes: [B, 1+K, D] query prototypes, zero for an absent label.
    """

    logits: Tensor
    loss: Tensor
    iou: Tensor
    present: Tensor
    prototypes: Tensor


def check_alignment(
    query: Tensor,
    labels: Tensor,
    support: Tensor,
    foreground: Tensor,
    background: Tensor,
    ways: Tensor,
    *,
    count: int,
    scale: float = 20.0,
) -> Alignment:
    """Segment every support from every query's predicted labels.

    Args:
        query: [B, D, h, w] features. labels: [B, h, w] int64 in 0..count, the query's prediction at feature size.
        support: [S, D, h', w'] features. foreground, background: [S, H, W] 0/1 masks; a pixel in neither is left out.
        ways: [S] int64 in 0..count-1, the class of each support. count: number of classes K.

    Raises:
        ValueError: ``ways`` or ``labels`` out of range; looked at on the CPU only, a GPU would have to be asked.
    """
    if labels.device.type == "cpu" and (int(ways.max()) >= count or int(labels.max()) > count):
        raise ValueError(f"ways up to {int(ways.max())}, labels up to {int(labels.max())}; count={count} classes allow "
                         f"{count - 1} and {count}")  # fmt: skip
    prototypes = query_prototypes(query, labels, count)
    pairs = torch.stack([prototypes[:, :1].expand(-1, len(ways), -1), prototypes[:, 1 + ways]], 2)  # [B, S, 2, D]
    found = cosine(support, pairs.transpose(0, 1).flatten(1, 2))  # [S, B 2, h', w']
    scores = scale * torch.unflatten(found, 1, (len(query), 2)).transpose(0, 1)  # [B, S, 2, h', w']
    target = torch.where(foreground > 0, 1, torch.where(background > 0, 0, IGNORE)).long()
    size = foreground.shape[-2:]
    large = F.interpolate(scores.flatten(0, 1), size=size, mode="bilinear", align_corners=False)  # [B S, 2, H, W]
    goal = target.repeat(len(query), 1, 1)
    valid = goal != IGNORE
    loss = F.cross_entropy(large, goal, ignore_index=IGNORE, reduction="none").sum((1, 2)) / valid.sum((1, 2))
    said = (large.argmax(1) == 1) & valid
    truth = goal == 1
    iou = (said & truth).sum((1, 2)) / (said | truth).sum((1, 2)).clamp_min(1)
    present = (labels.flatten(1)[:, None] == (ways + 1)[:, None]).any(-1)  # [B, S]
    shape = (len(query), len(ways))
    return Alignment(scores, loss.view(shape), iou.view(shape) * present, present, prototypes)


def query_prototypes(features: Tensor, labels: Tensor, count: int) -> Tensor:
    """Mean feature of each predicted label: [B, D, h, w], [B, h, w] -> [B, 1 + count, D], zero for an absent label."""
    masks = (labels[:, None] == torch.arange(count + 1, device=labels.device)[:, None, None]).float()
    total = torch.einsum("bdhw,bkhw->bkd", features.float(), masks)
    return (total / (masks.sum((2, 3)) + EPS)[..., None]).to(features.dtype)


def support_weights(iou: Tensor, ways: Tensor, *, sharpness: float = 1.0) -> Tensor:
    """[B, S] weights in [0, 1] from alignment IoUs: each support relative to the best of its class (which has 1).

    A class none of whose supports can be recovered keeps weight 1 for all: there is nothing to prefer.
    """
    best = iou[:, None].masked_fill(ways[:, None] != ways, -torch.inf).amax(-1)  # [B, S]
    return torch.where(best > 0, (iou / best.clamp_min(1e-12)) ** sharpness, torch.ones_like(iou))
