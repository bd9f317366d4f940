"""Small made-up data that a head can learn: the class is written into the tokens."""

from __future__ import annotations

import numpy as np
import torch

from clipseg_ws.heads.course import Course
from clipseg_ws.heads.data import ArrayData
from clipseg_ws.heads.options import TrainConfig

CLASSES = ("cat", "dog")


def toy(count: int = 12, seed: int = 0, grids=((4, 5), (3, 6)), noise: float = 0.3, detail: int = 2) -> ArrayData:
    """``count`` pictures of two grids: tokens [2, 8, h, w], labels [detail*h, detail*w] in 0..2 with some 255."""
    rng = np.random.default_rng(seed)
    codes = np.random.default_rng(99).normal(size=(3, 2, 8))
    features, labels, confidence = [], [], []
    for i in range(count):
        h, w = grids[i % len(grids)]
        patch = rng.integers(0, 3, (h, w))
        tokens = codes[patch] + noise * rng.normal(size=(h, w, 2, 8))  # [h, w, 2, 8]
        features.append(torch.from_numpy(tokens).permute(2, 3, 0, 1).float())
        mask = np.kron(patch, np.ones((detail, detail), int)).astype(np.uint8)
        sure = rng.uniform(0.5, 1, mask.shape)
        mask[rng.random(mask.shape) < 0.05] = 255
        labels.append(mask)
        confidence.append(sure)
    return ArrayData(features, labels, confidence)


def course(kind: str, data: ArrayData, training: dict, options: dict | None = None, **more) -> Course:
    """A course on toy data."""
    return Course(kind, TrainConfig.of(**training), data, CLASSES, options or {}, **more)
