"""Drawn scenes as pictures, examples and truth, for the tests."""

from __future__ import annotations

import numpy as np

from clipseg_ws import Support
from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene


def scene(seed: int):
    return draw_scene(5_000_000 + seed, 224)


def shown(seed: int, kind: str, label: str | None = None, *, masked: bool = True) -> Support:
    s = scene(seed)
    return Support(s.image, (s.labels == KINDS.index(kind) + 1).astype(np.uint8) if masked else None, label or kind)


def iou(got: np.ndarray, seed: int, kind: str) -> float:
    truth = scene(seed).labels == KINDS.index(kind) + 1
    return float((got & truth).sum() / (got | truth).sum())
