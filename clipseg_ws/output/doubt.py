"""Numbers that say of a mask, without the truth, how likely it is wrong: from its labels and their confidence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from clipseg_ws.output.items import Labels

Confidence = npt.NDArray[np.floating]
Doubt = Callable[[Labels, Confidence], float]


def mean(labels: Labels, confidence: Confidence) -> float:
    """Mean confidence of all pixels."""
    return float(confidence.mean(dtype=np.float64))


def foreground(labels: Labels, confidence: Confidence) -> float:
    """Mean confidence of the pixels of classes; 0 where there is none, for then whatever is there was missed."""
    inside = labels != 0
    return float(confidence[inside].mean(dtype=np.float64)) if inside.any() else 0.0


def weakest(labels: Labels, confidence: Confidence) -> float:
    """Mean confidence of the class that has the least; 0 without classes."""
    values = np.unique(labels)
    return min((mean(labels, confidence[labels == value]) for value in values[values != 0]), default=0.0)


def boundary(labels: Labels, confidence: Confidence) -> float:
    """Mean confidence of pixels beside another label; 0 where nothing has a border."""
    edge = edges(labels)
    return float(confidence[edge].mean(dtype=np.float64)) if edge.any() else 0.0


def certain(labels: Labels, confidence: Confidence) -> float:
    """Certainty of pixels beside another label: 1 less the mean entropy, in bits, of the label against all others."""
    edge = edges(labels)
    if not edge.any():
        return 0.0
    p = np.clip(confidence[edge].astype(np.float64), 1e-6, 1 - 1e-6)
    return float(1 + (p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean())


def contour(labels: Labels, confidence: Confidence) -> float:
    """Share of the pixels that are beside no other label: a ragged or scattered mask has much border."""
    return 1 - float(edges(labels).mean())


def edges(labels: Labels) -> npt.NDArray[np.bool_]:
    """[H, W] bool: pixels with another label above, below, left or right of them."""
    edge = np.zeros(labels.shape, bool)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    return edge


# lower is more doubtful
DOUBTS: dict[str, Doubt] = {
    "mean": mean, "foreground": foreground, "weakest": weakest, "boundary": boundary, "entropy": certain,
    "contour": contour,
}  # fmt: skip
