"""Boundary IoU (Cheng et al., CVPR 2021, arXiv 2103.16562): IoU of the strips along the contours, per class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from clipseg_ws.eval.metrics.confusion import divide, joint_counts, mean_over


def boundary_strip(labels: np.ndarray, width: int) -> np.ndarray:
    """[H, W] bool: pixels within ``width`` >= 1 (chessboard distance) of another label or of the outside.

    That is every class's mask less its erosion by a (2·width+1) square, for all classes at once: the pixels that touch
    another label (8 neighbours), grown by ``width - 1``.
    """
    touching = np.zeros(labels.shape, bool)
    for ahead, behind in _NEIGHBOURS:
        differs = labels[ahead] != labels[behind]
        touching[ahead] |= differs
        touching[behind] |= differs
    touching[[0, -1]] = touching[:, [0, -1]] = True
    return grow(touching, width - 1)


_FIRST, _LAST, _ALL = slice(None, -1), slice(1, None), slice(None)
_NEIGHBOURS = (  # (row, column) slices of both pixels of a pair: below, right, below right, below left
    ((_LAST, _ALL), (_FIRST, _ALL)),
    ((_ALL, _LAST), (_ALL, _FIRST)),
    ((_LAST, _LAST), (_FIRST, _FIRST)),
    ((_LAST, _FIRST), (_FIRST, _LAST)),
)


def grow(mask: np.ndarray, radius: int) -> np.ndarray:
    """[H, W] bool: pixels with a pixel of ``mask`` inside the (2·radius+1) square around them.

    A running "or" along each axis, its length doubled step by step: ten times as fast as a maximum filter.
    """
    for axis in (0, 1):
        pad = [(radius, radius) if i == axis else (0, 0) for i in (0, 1)]
        rows = np.moveaxis(np.pad(mask, pad), axis, 0)  # the axis first
        length, wanted = 1, 2 * radius + 1
        while length < wanted:
            step = min(length, wanted - length)
            rows = rows[:-step] | rows[step:]
            length += step
        mask = np.moveaxis(rows, 0, axis)
    return mask


class BoundaryIoU:
    """Sums of boundary intersections and unions per class over a whole set.

    Args:
        num_classes: C with background. ignore_index: truth value that is left out (of the prediction as well, so
            the edge of an ignored area is an edge in both).
        ratio: width of the strip as a share of the picture's diagonal, 0.02 as published; at least one pixel.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, ratio: float = 0.02) -> None:
        self.num_classes, self.ignore_index, self.ratio = num_classes, ignore_index, ratio
        self.intersection = np.zeros(num_classes, np.int64)
        self.union = np.zeros(num_classes, np.int64)
        self.truth = np.zeros(num_classes, np.int64)

    def update(self, prediction: Any, target: Any) -> None:
        """Add one image: integer label maps [H, W] of the same size."""
        target = np.asarray(target)
        ignored = target == self.ignore_index
        outside = self.num_classes  # one label for everything ignored
        dtype = np.uint8 if outside < 256 else np.int32
        maps = [np.where(ignored, outside, labels).astype(dtype) for labels in (prediction, target)]
        width = max(1, round(self.ratio * math.hypot(*target.shape)))
        strips = [np.where(boundary_strip(labels, width), labels, dtype(outside)) for labels in maps]
        table = joint_counts(strips[0], strips[1], outside + 1, ignore_index=None).numpy()
        intersection, predicted, truth = (v[:outside] for v in (np.diagonal(table), table.sum(0), table.sum(1)))
        self.intersection += intersection
        self.union += predicted + truth - intersection
        self.truth += truth

    def compute(self, average: str = "union", first_class: int = 0) -> dict[str, Any]:
        """boundary_iou (mean over classes, as mIoU is) and the list per class, fractions in [0, 1]."""
        iou = divide(self.intersection, self.union)
        mean, counted = mean_over(iou, self.truth, average, first_class)
        return {"boundary_iou": mean, "classes_counted": counted, "iou": iou.tolist()}

    def merge(self, other: BoundaryIoU) -> BoundaryIoU:
        """Add another meter of the same classes to this one; returns this one."""
        self.load({key: value + self.state()[key] for key, value in other.state().items()})
        return self

    def state(self) -> dict[str, np.ndarray]:
        """What has to be saved to go on later."""
        return {"intersection": self.intersection, "union": self.union, "truth": self.truth}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from `state`. Raises ValueError for another number of classes."""
        if np.shape(state["union"]) != self.union.shape:
            raise ValueError(f"saved sums are {np.shape(state['union'])}, this run needs {self.union.shape}")
        self.intersection, self.union, self.truth = (
            np.array(state[key], np.int64) for key in ("intersection", "union", "truth")
        )
