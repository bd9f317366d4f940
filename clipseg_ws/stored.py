"""Confidence and labels as they are stored, in 8 bits: the one place where numbers are narrowed and compared there.

A confidence of 0.95 is kept as 242/255 = 0.949: whoever compares one side before and the other after storing loses
pixels. So comparisons happen on the stored scale, for floats too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

CERTAIN = 255  # the stored form of 1
Confidence = TypeVar("Confidence", npt.NDArray[Any], "torch.Tensor")


def to_bytes(confidence: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Confidence in [0, 1] -> uint8, rounded, 255 = 1. Raises ValueError for values outside, and for NaN."""
    scaled = np.rint(np.asarray(confidence, np.float32) * np.float32(CERTAIN))
    if not ((scaled >= 0) & (scaled <= CERTAIN)).all():
        wrong = scaled[~((scaled >= 0) & (scaled <= CERTAIN))].flat[0] / CERTAIN
        raise ValueError(f"confidence {wrong:.3f}; numbers in [0, 1] are needed, for example 0.95")
    stored: npt.NDArray[np.uint8] = scaled.astype(np.uint8)
    return stored


def limit(threshold: float) -> int:
    """The stored confidence from which a pixel counts. Raises ValueError for a threshold outside [0, 1]."""
    if not 0 <= threshold <= 1:
        raise ValueError(f"confidence={threshold}; a number in [0, 1] is needed, for example 0.95")
    return int(to_bytes(threshold))


def is_sure(confidence: Confidence, threshold: float) -> Confidence:
    """bool, whether the confidence (uint8 as stored, or a float in [0, 1]) reaches the threshold as it is stored."""
    least = limit(threshold)
    if not isinstance(confidence, np.ndarray):
        stored = confidence if not confidence.is_floating_point() else (confidence.float() * CERTAIN).round()
        return stored >= least
    if confidence.dtype.kind in "ui":
        return confidence >= least
    reached: npt.NDArray[Any] = np.rint(confidence.astype(np.float32) * np.float32(CERTAIN)) >= least
    return reached


def to_labels(labels: npt.ArrayLike, what: str = "label") -> npt.NDArray[np.uint8]:
    """Whole labels 0 to 255 of any dtype -> uint8. Raises ValueError for others, which would wrap around."""
    values = np.asarray(labels)
    if values.dtype.kind not in "biu":
        raise ValueError(f"{what}s are {values.dtype}; whole numbers from 0 to {CERTAIN} are needed")
    if values.size and (int(values.min()) < 0 or int(values.max()) > CERTAIN):
        wrong = int(values.min()) if int(values.min()) < 0 else int(values.max())
        raise ValueError(f"{what} {wrong}; 8 bits hold 0 to {CERTAIN}")
    return values.astype(np.uint8)


def voc_palette(size: int = 256) -> npt.NDArray[np.uint8]:
    """[size, 3] uint8 colours of PASCAL VOC: the bits of the label, three at a time, fill R, G, B from the top bit.

    Label 0 is black, 1 (128, 0, 0), 255 (224, 224, 192). The first 256 are the official palette; the same rule goes on
    behind them.
    """
    labels = np.arange(size)
    colours = np.zeros((size, 3), dtype=np.uint8)
    for step in range(8):
        for channel in range(3):
            bit = (labels >> (3 * step + channel)) & 1
            colours[:, channel] |= (bit << (7 - step)).astype(np.uint8)
    return colours
