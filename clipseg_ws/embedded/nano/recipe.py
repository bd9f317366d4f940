"""The recipe of the shipped weights: what a training run depends on, its stages, its learning rates and optimisers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from clipseg_ws.embedded.training import text_parameters


@dataclass(frozen=True)
class Weights:
    """Weights of the losses. The spread map comes late: first there must be maps and some attention to spread them."""

    contrast: float = 0.4  # image-text, class token and mean patch token
    presence: float = 0.4  # words of the picture against all words, both embeddings
    region: float = 1.0  # value path against the patch's word
    affinity: float = 1.5  # mean attention against same-region pairs
    cam: float = 0.7  # activation map against the class's shares
    refined: float = 0.0  # the same after spreading it along the attention
    boxes: bool = False  # spread only what lies in the map's box
    flow: bool = False  # the spread map's loss shapes the activation map too, not only the attention


STAGES: tuple[tuple[float, Weights], ...] = (  # from which share of the steps
    (0.0, Weights()),
    (0.5, Weights(affinity=3.0, refined=1.0)),
    (0.72, Weights(affinity=0.5, refined=3.0, boxes=True)),
    (1.0, Weights(affinity=0.5, cam=0.0, refined=3.0, boxes=True, flow=True)),  # the polish
)


@dataclass(frozen=True)
class TrainConfig:
    """What a run depends on."""

    steps: int = 2800  # optimiser steps of the main part
    polish: int = 400  # further steps at a restarted, lower rate: the map is trained for what spreading makes of it
    polish_rounds: int = 2  # how often
    polish_pace: float = 0.2  # their peak learning rate as a share of the main part's
    batch: int = 32  # pictures a step
    size: int = 224  # largest picture side; a multiple of the patch
    scenes: int = 24_000  # scenes in the pool
    scene_size: int = 224  # side they are drawn at
    seed: int = 0  # of weights, batches and texts; scene seeds run from 0 in any case
    lr: float = 1e-3  # peak learning rate (AdamW; linear warm-up, then a cosine to a hundredth)
    warmup: int = 100  # steps
    text_steps: int = 400  # steps of the text tower alone, before the pictures come
    text_pace: float = 0.1  # learning rate of the text tower relative to ``lr``
    muon_lr: float = 0.02  # peak for the matrices of the vision blocks (Muon)
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.995  # running mean of the weights; that mean is what is exported
    attention_blocks: int = 2  # last blocks whose mean attention is the affinity
    device: str = "auto"
    precision: str = "bf16"  # autocast in bfloat16, or "fp32"

    def weights(self, step: int) -> Weights:
        """Weights of the losses at ``step``."""
        return [weights for start, weights in STAGES if step >= start * self.steps][-1]

    @property
    def total(self) -> int:
        """All optimiser steps."""
        return self.steps + self.polish * self.polish_rounds

    def sizes(self, step: int) -> tuple[int, ...]:
        """Picture sides that may be drawn at ``step``: small ones first, finer grids in the last two fifths."""
        shares = (0.58, 0.72, 0.72, 0.86) if step < 0.6 * self.steps else (0.72, 0.86, 1.0, 1.0)
        return tuple(max(32, round(self.size * share / 16) * 16) for share in shares)


def make_optimisers(model: Any, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the vision blocks (it halves the steps here), AdamW for the rest.

    ``peak`` of every group is its learning rate at the top of the schedule; the text tower's is ``text_pace * lr``.
    """
    if not hasattr(torch.optim, "Muon"):
        raise RuntimeError(f"training needs torch.optim.Muon (torch 2.9 or newer), got torch {torch.__version__}")
    named = [(n, p) for n, p in model.named_parameters() if n.startswith("visual.") or n == "logit_scale"]
    blocks = [p for n, p in named if n.startswith("visual.transformer") and p.ndim == 2]
    others = [p for n, p in named if not (n.startswith("visual.transformer") and p.ndim == 2)]
    groups = [
        {"params": others, "peak": config.lr},
        {"params": text_parameters(model), "peak": config.lr * config.text_pace},
    ]
    matrices = [{"params": blocks, "peak": config.muon_lr}]
    muon = torch.optim.Muon(matrices, weight_decay=0.02, momentum=0.95, nesterov=True)
    return [torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0), muon]


def pace(config: TrainConfig, step: int) -> float:
    """Learning rate as a share of its peak: linear warm-up, then a cosine down to a hundredth; the polish likewise."""
    if step >= config.steps:
        since = (step - config.steps) % config.polish
        return config.polish_pace * min(1.0, (since + 1) / 20) * 0.5 * (1 + math.cos(math.pi * since / config.polish))
    if step < config.warmup:
        return (step + 1) / config.warmup
    way = (step - config.warmup) / max(1, config.steps - config.warmup)
    return (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, way))))
