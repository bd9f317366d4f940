"""How much every pixel of a pseudo mask counts, by how sure it is.

Confidence-guided loss: pixels below 0.95 do not count (CLIP-ES, Lin et al., CVPR 2023, arXiv 2212.09506); that number
is meant for a dense CRF's probabilities. "soft" lets every pixel count by a power of its confidence instead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipseg_ws.heads import WEIGHTINGS
from clipseg_ws.registry import Spec, checked_spec
from clipseg_ws.stored import is_sure
from clipseg_ws.structures import IGNORE


def hard(confidence: Tensor, *, threshold: float = 0.95) -> Tensor:
    """1 from ``threshold`` on, 0 below."""
    return is_sure(confidence, threshold).float()


def soft(confidence: Tensor, *, power: float = 2.0) -> Tensor:
    """confidence ** ``power``."""
    return confidence.float().clamp(0, 1) ** power


def alike(confidence: Tensor) -> Tensor:
    """1 everywhere."""
    return torch.ones_like(confidence, dtype=torch.float32)


def confidence_weights(labels: Tensor, confidence: Tensor, *, mode: str = "hard", **parameters: float) -> Tensor:
    """How much every pixel counts.

    Args:
        labels: [B, H, W] integer; 255 never counts. confidence: [B, H, W] in [0, 1]. mode: a key of ``WEIGHTINGS``.
        parameters: of it, for example ``threshold=0.6``.

    Returns:
        [B, H, W] float32 in [0, 1].

    Raises:
        ValueError: an unknown mode or parameter, unequal shapes.
    """
    spec = checked_spec(Spec(mode, tuple(parameters.items())), WEIGHTINGS, "weighting")
    if labels.shape != confidence.shape:
        raise ValueError(f"labels are {tuple(labels.shape)}, confidence {tuple(confidence.shape)}; both are [B, H, W]")
    weigh: Tensor = WEIGHTINGS[mode].load()(confidence, **spec.resolved(WEIGHTINGS))
    return (labels != IGNORE).float() * weigh
