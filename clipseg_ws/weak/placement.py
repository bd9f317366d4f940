"""A pixel of its class for every box: which, where boxes compete for few pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Box = tuple[int, int, int, int, int]  # label, x0, y0, x1, y1
Scores = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class LabelConflict(ValueError):
    """Labels of one picture that no segmentation can satisfy."""


def place_in_boxes(scores: Scores, labels: Labels, boxes: Sequence[Box]) -> list[tuple[int, int, int]]:
    """(label, y, x) of a pixel for every box that has none of its label yet: the best one that is free.

    A pixel is free for a box if its label may be there (score above 0) and ``labels`` does not fix another one. Boxes
    take turns from the smallest to the largest, and give way to one another where pixels are few (augmenting paths);
    a box that holds another box of its class needs no pixel of its own; boxes of a class that merely overlap get one
    each. Equal scores: the first pixel in reading order.

    Args:
        scores: [C+1, H, W], 0 where a label must not be. labels: [H, W] fixed labels, -1 elsewhere.

    Raises:
        LabelConflict: not all boxes can hold a pixel of their class.
    """
    order = sorted(range(len(boxes)), key=lambda i: ((boxes[i][3] - boxes[i][1]) * (boxes[i][4] - boxes[i][2]), i))
    needy: list[Box] = []
    for box in (boxes[i] for i in order):
        label, x0, y0, x1, y1 = box
        holds = (b[0] == label and x0 <= b[1] and y0 <= b[2] and b[3] <= x1 and b[4] <= y1 for b in needy)
        if not (labels[y0:y1, x0:x1] == label).any() and not any(holds):
            needy.append(box)
    choices = [_best_free(scores, labels, box, len(needy)) for box in needy]
    taken: dict[tuple[int, int], int] = {}
    for number, box in enumerate(needy):
        if not _assign(number, choices, taken, set()):
            raise LabelConflict(f"box (label, x0, y0, x1, y1) = {box} has no pixel left for its class")
    return [(needy[number][0], y, x) for (y, x), number in taken.items()]


def _best_free(scores: Scores, labels: Labels, box: Box, count: int) -> list[tuple[int, int]]:
    """The ``count`` best pixels (y, x) of a box: with as many boxes more are never needed."""
    label, x0, y0, x1, y1 = box
    inside = scores[label, y0:y1, x0:x1]
    ys, xs = np.nonzero((inside > 0) & (labels[y0:y1, x0:x1] == -1))
    best = np.argsort(-inside[ys, xs], kind="stable")[:count]
    return [(int(ys[i]) + y0, int(xs[i]) + x0) for i in best]


def _assign(
    number: int, choices: list[list[tuple[int, int]]], taken: dict[tuple[int, int], int], tried: set[tuple[int, int]]
) -> bool:
    """Give box ``number`` a pixel, moving others where they have another choice (Kuhn's algorithm)."""
    for pixel in choices[number]:
        if pixel in tried:
            continue
        tried.add(pixel)
        if pixel not in taken or _assign(taken[pixel], choices, taken, tried):
            taken[pixel] = number
            return True
    return False
