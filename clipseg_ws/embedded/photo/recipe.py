"""The recipe of the shipped weights: stages, steps, sizes, learning rates, weights of the losses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Weights:
    """Weights of the losses of ``objective.py``; 0 leaves one out."""

    names: float = 1.0  # multi-positive contrast of names, class token and mean patch, each
    others: float = 0.2  # the same against ImageNet's names that the stem does not see
    opinion: float = 0.5  # the stem's 1,000-class opinion distilled into the class token
    patch_opinion: float = 0.3  # and into the patches
    presence: float = 0.3  # multiple-instance presence on the value path
    attention: float = 0.3  # attention of the last two blocks pulled to the stem's similarity
    teacher: float = 0.0  # patch labels of the averaged teacher, spread along attention and similarity
    masks: float = 0.0  # patch labels of the refined masks
    mask_others: float = 0.0  # the same with ImageNet's names in the softmax
    activation: float = 0.0  # softmax-GradCAM of one class against its mask
    spread: float = 0.0  # that map spread along the attention


MASKED = Weights(presence=0.1, masks=1.0, mask_others=0.2, activation=0.6, spread=0.6)


@dataclass(frozen=True)
class Stage:
    """One part of the training. ``size``: side of the square views; ``masks``: makes pseudo masks before it begins, at
    these short sides; ``crop``: smallest share of the picture's area in a view; ``teacher_from``: share of the steps
    after which the teacher is heard."""

    name: str
    steps: int
    size: int
    lr: float
    weights: Weights
    masks: tuple[int, ...] = ()
    crop: float = 0.35
    teacher_from: float = 2.0
    warmup: int = 100
    batch: int = 32  # pictures a step
    objects: int = 8  # of them object photos


STAGES = (
    Stage("labels", 1700, 224, 1.2e-3, Weights(teacher=0.4), crop=0.5, teacher_from=0.33, warmup=200),
    Stage("masks", 800, 320, 7e-4, MASKED, masks=(320,), batch=16, objects=4),
)


@dataclass(frozen=True)
class TrainConfig:
    """What a run depends on."""

    stages: tuple[Stage, ...] = STAGES
    backgrounds: int = 25  # learned background words
    seed: int = 0
    muon_lr: float = 0.02  # peak for the matrices of the blocks, in the stage with the highest rate
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.998  # running mean of the weights, which is what is exported
    device: str = "cpu"
    precision: str = "bf16"  # autocast in bfloat16, or "fp32"

    @property
    def total(self) -> int:
        """All optimiser steps."""
        return sum(stage.steps for stage in self.stages)

    def place(self, number: int) -> tuple[int, int]:
        """(stage, step in it) of step ``number``; at the end the last stage and its number of steps."""
        for index, stage in enumerate(self.stages):
            if number < stage.steps or index == len(self.stages) - 1:
                return index, number
            number -= stage.steps
        raise ValueError("a training needs at least one stage")


def make_optimisers(visual: nn.Module, tables: list[nn.Parameter], config: TrainConfig) -> list[Any]:
    """Muon for the matrices of the blocks, AdamW for the rest; ``share`` of every group is its rate relative to the
    stage's. The stem's trunk is frozen and in none."""
    if not hasattr(torch.optim, "Muon"):
        raise RuntimeError(f"training needs torch.optim.Muon (torch 2.9 or newer), got torch {torch.__version__}")
    named = [(n, p) for n, p in visual.named_parameters() if p.requires_grad]
    inner = [p for n, p in named if n.startswith("transformer") and p.ndim == 2]
    others = [p for n, p in named if not (n.startswith("transformer") and p.ndim == 2)]
    top = max(stage.lr for stage in config.stages)
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": 0.1, "share": 1.0},
        {"params": [*(p for p in others if p.ndim <= 1), *tables], "weight_decay": 0.0, "share": 1.0},
    ]
    muon = torch.optim.Muon([{"params": inner, "share": config.muon_lr / top}], weight_decay=0.02, momentum=0.95)
    return [torch.optim.AdamW(groups, lr=top, betas=(0.9, 0.95)), muon]


def pace(stage: Stage, step: int) -> float:
    """Learning rate at a step of a stage: linear warm-up, then a cosine down to a hundredth."""
    start = min(1.0, (step + 1) / stage.warmup)
    return stage.lr * start * (0.5 * (1 + math.cos(math.pi * step / stage.steps)) + 0.01)
