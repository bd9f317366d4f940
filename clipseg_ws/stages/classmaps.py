"""Maps of the present classes of a batch, as tensors: no lists, so that nothing waits for a value of the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """Maps of the present classes of B images.

    Attributes:
        classes: [B, K] int64, for each image the vocabulary indices of its present classes in order, then -1.
        maps: [B, K, h, w] float32 in [0, 1], zero for padding.
        scores: [B, C] float32 in [0, 1], image-level score of every class of the vocabulary.
        background: [B, h, w] float32 in [0, 1], score of the background words; None unless the rule needs it.
        support_iou: [B, S] IoU in [0, 1] of every support segmented from the image (few setting with alignment).
    """

    classes: Tensor
    maps: Tensor
    scores: Tensor
    background: Tensor | None
    support_iou: Tensor | None = None

    def present(self) -> Tensor:
        """[B, C] bool."""
        here = torch.zeros(len(self.classes), self.scores.shape[1] + 1, dtype=torch.bool, device=self.classes.device)
        return here.scatter(1, self.classes + 1, True)[:, 1:]  # column 0 collects the padding


def members(present: Tensor, device: torch.device | str) -> Tensor:
    """[B, C] bool -> [B, K] int64 on ``device``: the classes of each image in order, -1 pads, K = most in one image.

    Where ``present`` lies on the CPU nothing waits for the device; else K is read from it once a batch.
    """
    most = int(present.sum(1).max()) if present.numel() else 0
    order = (~present).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    return torch.where(present.gather(1, order), order, -1).to(device)
