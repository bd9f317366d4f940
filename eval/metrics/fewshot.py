"""HSNet's few-shot scores: sums per class over one-class episodes (Min et al., ICCV 2021, arXiv 2104.01538)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clipseg_ws.eval.metrics.confusion import divide, joint_counts


class FewShotMeter:
    """Sums per class over one-class episodes.

    Args:
        classes: class ids of the fold; a class without episodes counts as 0 in the mean, as in HSNet.
    Attributes:
        intersection, union, truth: [n, 2] int64 sums (background, foreground) per class; episodes: [n] int64.
    """

    def __init__(self, classes: Sequence[int], ignore_index: int = 255) -> None:
        self.classes = tuple(classes)
        if len(set(self.classes)) != len(self.classes) or not self.classes:
            raise ValueError(f"classes of a fold are distinct ids, got {self.classes}; e.g. (0, 1, 2, 3, 4)")
        self.ignore_index = ignore_index
        self.intersection = np.zeros((len(self.classes), 2), np.int64)
        self.union = np.zeros_like(self.intersection)
        self.truth = np.zeros_like(self.intersection)
        self.episodes = np.zeros(len(self.classes), np.int64)

    def update(self, prediction: Any, target: Any, class_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Add one episode; maps [H, W] of 0 and 1, truth may hold ``ignore_index``. Returns its areas [2], [2]."""
        if class_id not in self.classes:
            raise ValueError(f"class {class_id} is not in this fold; its classes are {self.classes}")
        table = joint_counts(prediction, target, 2, self.ignore_index).cpu().numpy()
        intersection = np.diagonal(table).copy()
        union = table.sum(0) + table.sum(1) - intersection
        row = self.classes.index(class_id)
        self.intersection[row] += intersection
        self.union[row] += union
        self.truth[row] += table.sum(1)
        self.episodes[row] += 1
        return intersection, union

    def merge(self, other: FewShotMeter) -> FewShotMeter:
        """Add another meter of the same fold to this one; returns this one."""
        if other.classes != self.classes:
            raise ValueError(f"cannot merge classes {other.classes} into {self.classes}; use the same fold")
        self.load({key: value + self.state()[key] for key, value in other.state().items()})
        return self

    def compute(self) -> dict[str, Any]:
        """mIoU (foreground, mean over the fold's classes), fb_iou, class_iou [2, n] (background, foreground), …"""
        class_iou = (self.intersection / np.maximum(self.union, 1)).T
        sums = self.intersection.sum(0) / np.maximum(self.union.sum(0), 1)
        return {
            "mIoU": float(class_iou[1].mean()),
            "fb_iou": float(sums.mean()),
            "class_iou": class_iou,
            "classes_counted": int((self.episodes > 0).sum()),
            "pixel_accuracy": float(divide(self.intersection.sum(), self.truth.sum())),
            "iou": class_iou[1].tolist(),
            "pixels": self.truth[:, 1].tolist(),
        }

    def state(self) -> dict[str, np.ndarray]:
        """What has to be saved to go on later."""
        return {key: getattr(self, key) for key in ("intersection", "union", "truth", "episodes")}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from `state`. Raises ValueError for another fold size."""
        if np.shape(state["union"]) != self.union.shape:
            raise ValueError(f"saved sums are {np.shape(state['union'])}, this fold needs {self.union.shape}")
        self.intersection, self.union, self.truth, self.episodes = (
            np.array(state[key], np.int64) for key in ("intersection", "union", "truth", "episodes")
        )
