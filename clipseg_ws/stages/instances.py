"""Instances of one picture's answer: every class cut by the boxes that were given for it, else by its map's peaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from clipseg_ws.activations.peaks import box_instances, peak_instances
from clipseg_ws.weak.constraints import Constraints

CELL = 8  # pixels of a cell of the map in which peaks are looked for


def instances(
    labels: NDArray[Any], scores: NDArray[np.float32], classes: Sequence[int], marks: Constraints | None
) -> NDArray[np.int32]:
    """Instances of every class of one picture.

    Args:
        labels: [H, W] in the whole vocabulary, 0 background. scores: [K, H, W] of ``classes`` (0-based).
        marks: among the K classes; a class with boxes is cut by them, the others by the peaks of their map.

    Returns:
        [H, W] int32: 0 background, 1, 2, ... each instance of one class only, classes in label order.
    """
    out = np.zeros(labels.shape, np.int32)
    height, width = labels.shape
    grid = (max(1, height // CELL), max(1, width // CELL))
    for k, c in sorted(enumerate(classes), key=lambda pair: pair[1]):
        mask = labels == c + 1
        if not mask.any():
            continue
        boxes = [] if marks is None else [tuple(box[1:]) for box in marks.boxes if box[0] == k + 1]
        if boxes:
            parts = box_instances(mask, boxes)  # type: ignore[arg-type]
        else:
            small = F.adaptive_avg_pool2d(torch.from_numpy(scores[k : k + 1]), grid)[0]
            parts = peak_instances(mask, small.numpy())
        out[mask] = parts[mask] + out.max(initial=0)
    return out
