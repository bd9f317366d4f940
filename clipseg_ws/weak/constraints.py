"""Weak labels of one picture as tensors: which class may lie where, and which pixels are fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipseg_ws.structures import IGNORE, Vocabulary, WeakLabels, word_key
from clipseg_ws.weak.names import Names, known_word, spellings
from clipseg_ws.weak.placement import Box, LabelConflict, Labels, place_in_boxes

BACKGROUND = "background"
Allowed = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Constraints:
    """What the labels of one picture say about its pixels; labels count as everywhere, 0 is background.

    Attributes:
        allow: [C+1, H, W] bool, background first: where a label may appear. At a seed only its own label may.
        seed: [H, W] int64, the label of a fixed pixel, -1 elsewhere.
        boxes: (label, x0, y0, x1, y1) in whole pixels, ends exclusive; each must hold a pixel of its label.
        present: sorted 0-based indices of the classes that may appear at all; None: any.
    """

    allow: Tensor
    seed: Tensor
    boxes: tuple[Box, ...]
    present: tuple[int, ...] | None

    @property
    def marked(self) -> bool:
        """Whether anything is said of pixels: tags alone say nothing of them."""
        return bool(self.boxes) or bool((self.seed >= 0).any())

    def named(self) -> list[int]:
        """Labels of classes that have a box or a fixed pixel, sorted."""
        fixed: list[int] = np.unique(self.seed.cpu().numpy()).tolist()
        return sorted({box[0] for box in self.boxes} | {label for label in fixed if label > 0})

    def select(self, classes: Sequence[int]) -> Constraints:
        """The same among the kept ``classes`` (0-based): label k+1 is then ``classes[k]``.

        Raises ValueError where a box or a seed belongs to a class that is not kept.
        """
        table = torch.full((self.allow.shape[0] + 1,), -2, dtype=torch.int64, device=self.seed.device)
        table[[0, *(c + 1 for c in classes), -1]] = torch.tensor([*range(len(classes) + 1), -1], device=table.device)
        seed, boxes = table[self.seed], tuple((int(table[label]), *rest) for label, *rest in self.boxes)
        if (seed == -2).any() or any(box[0] == -2 for box in boxes):
            raise ValueError(f"classes {list(classes)} leave out one that has a box, a point or a scribble")
        allow = self.allow[[0, *(c + 1 for c in classes)]]
        return Constraints(allow, seed, boxes, tuple(range(len(classes))))  # type: ignore[arg-type]

    def to(self, device: torch.device | str) -> Constraints:
        """The tensors on another device."""
        return Constraints(self.allow.to(device), self.seed.to(device), self.boxes, self.present)


def constraints(weak: WeakLabels, names: Names, size: tuple[int, int], *, point_radius: int = 1) -> Constraints:
    """Weak labels of one picture -> where each label may lie, and the fixed pixels.

    * Classes that may appear: the tags; without tags those that boxes, points or scribbles name; without any, all.
    * A class with boxes may appear only inside one of them. A box covers every pixel it touches.
    * Scribbles and the pixel under a point are fixed. The disc of ``point_radius`` pixels around a point is fixed too
      where its class may be and where no other mark's pixel lies; of two points the nearer one takes a pixel, of two
      equally near ones the first.

    Args:
        names: C classes in label order, or a vocabulary whose synonyms count; letter case does not matter.
        size: (H, W) of the picture.

    Raises:
        ValueError: an unknown name, a mark outside the picture, scribbles of another size.
        LabelConflict: two labels for one pixel, a mark of a class that the tags exclude, a seed outside its class's
            boxes, or boxes that cannot all hold a pixel of their class.
    """
    index = _indices(names)
    count = len(names.names if isinstance(names, Vocabulary) else names)
    boxes = tuple((_label(index, box[0], "box"), *_pixels(box, size)) for box in weak.boxes)
    points = [(_label(index, name, "point"), *_pixel(name, x, y, size)) for name, x, y in weak.points]
    seed = _scribbled(weak.scribbles, count, size)
    marked = {box[0] for box in boxes} | {point[0] for point in points} | set(np.unique(seed).tolist())
    marked -= {0, -1}
    present = _present(weak, index, marked, names)
    allow = _allowed(boxes, present, count, size)
    try:
        seed, allow = _fixed(seed, allow, points, boxes, point_radius)
    except LabelConflict:  # a disc may have taken the last pixel of a tiny box
        seed, allow = _fixed(seed, allow, points, boxes, 0)
    kept = None if present is None else tuple(sorted(label - 1 for label in present))
    return Constraints(torch.from_numpy(allow), torch.from_numpy(seed), boxes, kept)


def _fixed(
    seed: Labels,
    allow: Allowed,
    points: Sequence[tuple[int, int, int]],
    boxes: Sequence[Box],
    radius: int,
) -> tuple[Labels, Allowed]:
    """Seed and allow maps with the points in and only the seed's own label at every seed; raises LabelConflict."""
    seed, allow = seed.copy(), allow.copy()
    _fix_points(seed, points, allow, radius)
    rows, columns = np.nonzero(seed >= 0)
    outside = ~allow[seed[rows, columns], rows, columns]
    if outside.any():
        y, x = int(rows[outside][0]), int(columns[outside][0])
        raise LabelConflict(f"a mark of label {seed[y, x]} at x={x}, y={y} lies outside the boxes of its class")
    allow[:, rows, columns] = False
    allow[seed[rows, columns], rows, columns] = True
    place_in_boxes(allow.astype(np.float32), seed, boxes)
    return seed, allow


def _indices(names: Names) -> dict[str, int]:
    """``word_key`` of every word -> label."""
    listed = names.names if isinstance(names, Vocabulary) else tuple(names)
    label = {name: i + 1 for i, name in enumerate(listed)}
    return {word: label[name] for word, name in (spellings(names) or {}).items()}


def _label(index: dict[str, int], name: str, kind: str) -> int:
    found = known_word(name, index)
    if found is not None:
        return found
    if word_key(name) == BACKGROUND and kind == "point":
        return 0
    raise ValueError(f"a {kind} is called {name!r}, which is no class; known: {', '.join(index)}")


def _pixels(box: tuple[str, float, float, float, float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Every pixel that a box touches, cut to the picture; a box without area covers the pixel it lies in."""
    name, x0, y0, x1, y1 = box
    if not all(math.isfinite(v) for v in box[1:]) or x1 < x0 or y1 < y0:
        raise ValueError(f"box {box} is none; write (name, x0, y0, x1, y1) with x0 < x1 and y0 < y1")
    left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
    right, bottom = (max(math.ceil(x1), math.floor(x0) + 1), max(math.ceil(y1), math.floor(y0) + 1))
    right, bottom = min(size[1], right), min(size[0], bottom)
    if left >= right or top >= bottom:
        raise ValueError(f"box {box} of {name!r} lies outside the picture of {size[1]} x {size[0]}")
    return left, top, right, bottom


def _pixel(name: str, x: float, y: float, size: tuple[int, int]) -> tuple[int, int]:
    """(row, column) under a point; the far edge belongs to the last pixel."""
    if not (0 <= x <= size[1] and 0 <= y <= size[0]):
        raise ValueError(f"point ({name!r}, {x}, {y}) lies outside the picture of {size[1]} x {size[0]}")
    return min(int(y), size[0] - 1), min(int(x), size[1] - 1)


def _scribbled(scribbles: npt.NDArray[np.uint8] | None, count: int, size: tuple[int, int]) -> Labels:
    """[H, W] int64 labels of the strokes, -1 elsewhere."""
    if scribbles is None:
        return np.full(size, -1, np.int64)
    if scribbles.shape != tuple(size):
        raise ValueError(f"scribbles are {list(scribbles.shape)}, the picture is {list(size)}; both as [H, W]")
    if scribbles.dtype.kind not in "ui":
        raise ValueError(f"scribbles are {scribbles.dtype}; whole labels are needed, 255 for unmarked")
    drawn = scribbles[scribbles != IGNORE].astype(np.int64)
    if drawn.size and (drawn.min() < 0 or drawn.max() > count):
        wrong = drawn.min() if drawn.min() < 0 else drawn.max()
        raise ValueError(f"scribbles hold label {wrong}; allowed: 0 to {count}, 255 for unmarked")
    return np.where(scribbles == IGNORE, -1, scribbles.astype(np.int64))


def _present(weak: WeakLabels, index: dict[str, int], marked: set[int], names: Names) -> set[int] | None:
    """Labels that may appear; None: all."""
    if weak.tags is None:
        return marked or None
    tags = {_label(index, tag, "tag") for tag in weak.tags}
    if extra := marked - tags:
        listed = names.names if isinstance(names, Vocabulary) else names
        raise LabelConflict(
            f"marks name {', '.join(listed[i - 1] for i in sorted(extra))}, the tags are {', '.join(weak.tags) or '-'}"
        )
    return tags


def _allowed(boxes: Sequence[Box], present: set[int] | None, count: int, size: tuple[int, int]) -> Allowed:
    """[C+1, H, W] bool from tags and boxes alone; the background may be anywhere."""
    allow = np.ones((count + 1, *size), dtype=bool)
    boxed = {box[0] for box in boxes}
    for label in range(1, count + 1):
        allow[label] = (present is None or label in present) and label not in boxed
    for label, x0, y0, x1, y1 in boxes:
        allow[label, y0:y1, x0:x1] = True
    return allow


def _fix_points(seed: Labels, points: Sequence[tuple[int, int, int]], allow: Allowed, radius: int) -> None:
    """Write the points' pixels and discs into the new array ``seed``."""
    for label, y, x in points:
        if seed[y, x] not in (-1, label):
            raise LabelConflict(f"two labels, {seed[y, x]} and {label}, for the pixel at x={x}, y={y}")
        seed[y, x] = label
    ys, xs = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    nearest = np.full(seed.shape, np.inf)
    fixed = seed >= 0
    for label, y, x in points:
        near = ys**2 + xs**2 <= radius**2
        rows, columns, far = y + ys[near], x + xs[near], (ys**2 + xs**2)[near]
        inside = (rows >= 0) & (columns >= 0) & (rows < seed.shape[0]) & (columns < seed.shape[1])
        rows, columns, far = rows[inside], columns[inside], far[inside]
        free = ~fixed[rows, columns] & allow[label, rows, columns] & (far < nearest[rows, columns])
        seed[rows[free], columns[free]] = label
        nearest[rows[free], columns[free]] = far[free]
