"""Uncertain patches masked and recovered, confident ones kept: feature self-reinforcement (FSR, AAAI 2024).

A second view of the tokens has some of the uncertain patches (confidence in the middle of its range) replaced by the
picture's mean token. The head must answer there what it answers to the whole view, and the same at confident patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clipseg_ws.heads.base import HeadOutput
from clipseg_ws.heads.course import Course
from clipseg_ws.heads.data import Batch
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.losses import at_grid, soft_cross_entropy
from clipseg_ws.stored import is_sure


def uncertain_patches(confidence: Tensor, low: float, high: float) -> Tensor:
    """bool, same shape: confidence in [low, high)."""
    return is_sure(confidence, low) & ~is_sure(confidence, high)


def mask_tokens(features: Tensor, chosen: Tensor) -> Tensor:
    """[B, L, D, h, w] with the patches of ``chosen`` [B, h, w] replaced by their picture's mean token."""
    mean = features.mean((-2, -1), keepdim=True)
    return torch.where(chosen[:, None, None], mean, features)


@dataclass(frozen=True)
class Consistency:
    """The scheme as further losses of a ``Trainer``.

    Attributes:
        low, high: range of the confidence that counts as uncertain. share: of the uncertain patches that are masked.
        weight: of both losses.
    """

    low: float = 0.3
    high: float = 0.9
    share: float = 0.5
    weight: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1 or not 0 < self.share <= 1:
            raise ValueError(
                f"low={self.low}, high={self.high}, share={self.share}; 0 <= low < high <= 1 and a share in (0, 1] are "
                "needed, for example low=0.3, high=0.9, share=0.5"
            )

    def __call__(
        self, module: nn.Module, batch: Batch, output: HeadOutput, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """``recover`` (masked patches) and ``agree`` (confident patches), each times the weight."""
        grid = (batch.features.shape[-2], batch.features.shape[-1])
        confidence = at_grid(batch.confidence, grid)
        uncertain = uncertain_patches(confidence, self.low, self.high)
        chance = torch.rand(confidence.shape, generator=generator).to(confidence.device)
        masked = uncertain & (chance < self.share)
        second = module(mask_tokens(batch.features.float(), masked)).logits
        target = output.logits.detach().float().softmax(1)
        losses = {}
        for name, patches in (("recover", masked), ("agree", is_sure(confidence, self.high))):
            scale = second.shape[-1] // grid[1]
            where = patches.float().repeat_interleave(scale, 1).repeat_interleave(scale, 2)
            losses[name] = self.weight * soft_cross_entropy(second, target, where)
        return losses


def fit_consistent(
    course: Course, *, low: float = 0.3, high: float = 0.9, share: float = 0.5, weight: float = 0.2
) -> SegmentationHead:
    """Train with the two losses beside the masks'. Parameters as of ``Consistency``."""
    return course.learn(course.head(), extra=Consistency(low, high, share, weight))
