"""Set-level segmentation scores: one confusion matrix over all images.

The field's mIoU is sum of intersections over sum of unions per class over the whole set, then the mean over classes
(`torchmetrics.MulticlassJaccardIndex(ignore_index=255)`), not the mean of per-image scores. All counts are int64 sums,
so the order of the images, resuming and merging never change a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

AVERAGES = ("union", "truth")


def as_labels(values: Any) -> torch.Tensor:
    """An integer tensor of any shape from a tensor or array (bool becomes uint8). Raises TypeError for floats."""
    if isinstance(values, torch.Tensor):
        labels = values
    else:
        array = np.ascontiguousarray(values)
        labels = torch.from_numpy(array if array.flags.writeable else array.copy())  # torch wants them writable
    if labels.dtype.is_floating_point or labels.dtype.is_complex:
        raise TypeError(f"label maps are integers, got {labels.dtype}; e.g. take the arg-max of the scores first")
    return labels.to(torch.uint8) if labels.dtype == torch.bool else labels


def joint_counts(prediction: Any, target: Any, num_classes: int, ignore_index: int | None = 255) -> torch.Tensor:
    """[C, C] int64 counts (row = truth, column = prediction) of the pixels whose truth is not ``ignore_index``.

    ``ignore_index=None`` leaves nothing out. Runs on the device of ``prediction``. Raises ValueError for shapes that
    differ and for labels outside 0…C-1 (a predicted 255 under a valid truth included: resolve ignored pixels first).
    """
    prediction, target = as_labels(prediction), as_labels(target)
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction has shape {tuple(prediction.shape)}, truth {tuple(target.shape)}; both must be e.g. (375, 500)"
        )
    target = target.to(prediction.device)
    byte = prediction.dtype == target.dtype == torch.uint8
    if byte and num_classes <= 256 and (ignore_index is None or 0 <= ignore_index <= 255):
        index = target.reshape(-1).to(torch.int32) * 256 + prediction.reshape(-1)  # [P] in 0…65535
        table = torch.bincount(index, minlength=256 * 256).view(256, 256)
        if ignore_index is not None:
            table[ignore_index] = 0
        _check_range(table[num_classes:].any() or table[:, num_classes:].any(), prediction, target, num_classes)
        return table[:num_classes, :num_classes]
    prediction, target = prediction.reshape(-1).long(), target.reshape(-1).long()
    keep = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    prediction, target = prediction[keep], target[keep]
    both = torch.cat([prediction, target])
    _check_range(((both < 0) | (both >= num_classes)).any(), prediction, target, num_classes)
    return torch.bincount(target * num_classes + prediction, minlength=num_classes**2).view(num_classes, num_classes)


def _check_range(bad: Any, prediction: torch.Tensor, target: torch.Tensor, num_classes: int) -> None:
    if not bool(bad):
        return
    found = [sorted(set(labels.flatten().tolist()))[:12] for labels in (prediction, target)]
    seen = f"prediction {found[0]}, truth {found[1]}"
    raise ValueError(
        f"labels outside 0…{num_classes - 1} ({seen}); only the truth may hold the ignored value, "
        f"e.g. give predictions of 255 a class or background first"
    )


class ConfusionMatrix:
    """Counts of (truth, prediction) pairs over a whole set.

    Args:
        num_classes: C, background included where the protocol has one.
        ignore_index: truth value that is left out.
    Attributes:
        matrix: [C, C] int64, row = truth, column = prediction; lives where the first prediction lived.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        if num_classes < 1:
            raise ValueError(f"got {num_classes} classes; at least one is needed, e.g. 21 for VOC with background")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, prediction: Any, target: Any) -> torch.Tensor:
        """Add label maps of equal shape (any number of axes) and return their own counts [C, C]."""
        return self.add(joint_counts(prediction, target, self.num_classes, self.ignore_index))

    def add(self, counts: torch.Tensor) -> torch.Tensor:
        """Add counts [C, C] of `joint_counts` and return them."""
        self.matrix = self.matrix.to(counts.device) + counts
        return counts

    def merge(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Add another matrix of the same size (a shard, a resumed part) to this one; returns this one."""
        if other.num_classes != self.num_classes:
            raise ValueError(f"cannot merge {other.num_classes} classes into {self.num_classes}; use the same data set")
        self.matrix = self.matrix + other.matrix.to(self.matrix.device)
        return self

    def compute(self, average: str = "union", first_class: int = 0) -> dict[str, Any]:
        """The scores as fractions in [0, 1]; see `scores`."""
        return scores(self.matrix, average=average, first_class=first_class)

    def state(self) -> dict[str, np.ndarray]:
        """What has to be saved to go on later."""
        return {"matrix": self.matrix.cpu().numpy()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from `state`. Raises ValueError for another number of classes."""
        matrix = torch.from_numpy(np.array(state["matrix"], dtype=np.int64))
        if matrix.shape != self.matrix.shape:
            raise ValueError(f"saved matrix is {tuple(matrix.shape)}, this run needs {tuple(self.matrix.shape)}")
        self.matrix = matrix


def mean_over(iou: np.ndarray, truth: np.ndarray, average: str, first_class: int = 0) -> tuple[float, int]:
    """Mean of ``iou`` [C] (nan = absent from both) over the protocol's classes, and how many took part.

    ``average="union"``: classes in prediction or truth (mmseg, torchmetrics macro). ``"truth"``: classes with truth
    pixels only (CLIP-ES). ``first_class=1`` leaves background out. Not a number when no class takes part.
    """
    if average not in AVERAGES:
        raise ValueError(f"unknown average {average!r}; choose from {', '.join(AVERAGES)}")
    counted = ~np.isnan(iou) if average == "union" else (truth > 0) & ~np.isnan(iou)
    counted[:first_class] = False
    return (float(iou[counted].mean()) if counted.any() else float("nan")), int(counted.sum())


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """float64 quotient, nan where the denominator is 0."""
    shape = np.broadcast_shapes(np.shape(numerator), np.shape(denominator))
    quotient = np.full(shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=np.asarray(denominator) > 0)
    return quotient


def scores(matrix: Any, *, average: str = "union", first_class: int = 0) -> dict[str, Any]:
    """Scores of a confusion matrix [C, C] (row = truth), all in [0, 1].

    Returns mIoU, classes_counted, pixel_accuracy, class_accuracy (mean over classes in the truth),
    frequency_weighted_iou, fb_iou (mean of background and of all classes taken together; nan for ``first_class=1``),
    iou [C] and pixels [C] (truth pixels). ``first_class=1`` is for protocols without background: label 0 then
    is "no answer", costs the true class its pixel, and is itself never averaged.
    """
    table = np.asarray(matrix.cpu() if isinstance(matrix, torch.Tensor) else matrix, dtype=np.int64)
    hits, truth, predicted = np.diagonal(table), table.sum(1), table.sum(0)
    iou = divide(hits, truth + predicted - hits)
    mean, counted = mean_over(iou, truth, average, first_class)
    total = truth.sum()
    present = truth > 0
    foreground = divide(table[1:, 1:].sum(), total - table[0, 0])
    return {
        "mIoU": mean,
        "classes_counted": counted,
        "pixel_accuracy": float(divide(hits.sum(), total)),
        "class_accuracy": float(divide(hits, truth)[present].mean()) if present.any() else float("nan"),
        "frequency_weighted_iou": float((divide(truth, total)[present] * iou[present]).sum())
        if total
        else float("nan"),
        "fb_iou": float((iou[0] + foreground) / 2) if first_class == 0 else float("nan"),
        "iou": iou.tolist(),
        "pixels": truth.tolist(),
    }
