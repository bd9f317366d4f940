"""``RegionSet``: the regions of one picture as runs of pixels; memory grows with their borders, not with their number.

Regions have no names, may overlap and may leave pixels over. A run lies in one row and holds pixels of one region.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipseg_ws.door import InputError

Bools = NDArray[np.bool_]
CHUNK = 2**22  # pixels that are written out of runs at once


@dataclass(frozen=True, eq=False)
class RegionSet:
    """The n regions of a picture; n may be 0.

    Attributes:
        size: (H, W) of the picture. starts: [R] int64, first pixel of every run, y * W + x. lengths: [R] int64.
        offsets: [n + 1] int64: region i has the runs ``offsets[i]:offsets[i + 1]``.
        scores: [n] float32, how good the source thinks a region is; 1 where it does not say.

    Example:
        >>> regions = RegionSet.from_labels(np.array([[0, 0, 1], [0, -1, 1]]))
        >>> len(regions), regions.areas.tolist(), regions.boxes.tolist()
        (2, [3, 2], [[0, 0, 2, 2], [2, 0, 3, 2]])
    """

    size: tuple[int, int]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    offsets: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @staticmethod
    def from_labels(labels: ArrayLike, rest: int = -1) -> RegionSet:
        """Regions of a label map [H, W] of whole numbers, one a value but ``rest``, in the order of the values."""
        values = np.asarray(labels)
        if values.ndim != 2 or values.dtype.kind not in "iub":
            raise ValueError(f"labels are {values.dtype} {list(values.shape)}; whole numbers [H, W] are needed")
        height, width = values.shape
        begins = np.ones(values.shape, bool)
        begins[:, 1:] = values[:, 1:] != values[:, :-1]
        starts = np.flatnonzero(begins)
        lengths = np.diff(starts, append=values.size)
        owners = values.ravel()[starts].astype(np.int64)
        kept = owners != rest
        starts, lengths, owners = starts[kept], lengths[kept], owners[kept]
        order = owners.argsort(kind="stable")
        _, counts = np.unique(owners, return_counts=True)
        offsets = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
        scores = np.ones(len(counts), np.float32)
        return RegionSet((height, width), starts[order].astype(np.int64), lengths[order], offsets, scores)

    @staticmethod
    def from_masks(masks: Iterable[Bools], size: tuple[int, int], scores: ArrayLike | None = None) -> RegionSet:
        """Regions of masks bool [H, W], one after another, so that they need not be held together; empty ones stay out.

        Raises ValueError for a mask of another size, and another number of scores.
        """
        runs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        filled: list[int] = []
        count = 0
        for count, mask in enumerate(masks, 1):
            if mask.shape != size:
                raise ValueError(f"region {count} is {list(mask.shape)}; the picture is {list(size)}")
            whole = RegionSet.from_labels(mask.astype(np.int8) - 1)
            if len(whole):
                runs.append((whole.starts, whole.lengths))
                filled.append(count - 1)
        given = np.ones(count, np.float32) if scores is None else np.asarray(scores, np.float32)
        if len(given) != count:
            raise ValueError(f"{len(given)} scores for {count} regions; one each is needed")
        return _joined(size, runs, given[filled])

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """[n] pixels of every region."""
        sums = np.concatenate([[0], self.lengths.cumsum()])
        return (sums[self.offsets[1:]] - sums[self.offsets[:-1]]).astype(np.int64)

    @cached_property
    def boxes(self) -> NDArray[np.int64]:
        """[n, 4] x0, y0, x1, y1, ends exclusive."""
        if not len(self):
            return np.zeros((0, 4), np.int64)
        y, x = np.divmod(self.starts, self.size[1])
        at = self.offsets[:-1]
        low = [np.minimum.reduceat(v, at) for v in (x, y)]
        high = [np.maximum.reduceat(v, at) for v in (x + self.lengths, y + 1)]
        return np.stack([*low, *high], 1)

    def mask(self, index: int) -> Bools:
        """[H, W] bool of one region."""
        flat = np.zeros(self.size[0] * self.size[1], bool)
        flat[_pixels(self.starts[self._runs(index)], self.lengths[self._runs(index)])] = True
        return flat.reshape(self.size)

    def masks(self) -> Iterator[Bools]:
        """All masks, one at a time."""
        return (self.mask(i) for i in range(len(self)))

    def select(self, index: ArrayLike) -> RegionSet:
        """Some of the regions, in the order of ``index``."""
        chosen = np.asarray(index, np.int64).ravel()
        runs = [(self.starts[self._runs(i)], self.lengths[self._runs(i)]) for i in chosen.tolist()]
        return _joined(self.size, runs, self.scores[chosen])

    def partition(self) -> NDArray[np.int32]:
        """[H, W] region of every pixel, -1 for none; where regions overlap the smaller one, of equal ones the first."""
        flat = np.full(self.size[0] * self.size[1], -1, np.int32)
        order = np.lexsort((-np.arange(len(self)), -self.areas))
        for pixels, owners in self._pixels_by(order):
            flat[pixels] = owners  # of several values for a pixel numpy keeps the last
        return flat.reshape(self.size)

    def coverage(self, grid: tuple[int, int]) -> NDArray[np.float32]:
        """[n, h * w] in [0, 1]: the share of every cell of a grid (h, w) that lies in a region."""
        (height, width), (rows, columns) = self.size, grid
        cell_y = np.arange(height) * rows // height
        cell_x = np.arange(width) * columns // width
        cells = rows * columns
        found = np.zeros(len(self) * cells, np.float64)
        for pixels, owners in self._pixels_by(np.arange(len(self))):
            y, x = np.divmod(pixels, width)
            found += np.bincount(owners * cells + cell_y[y] * columns + cell_x[x], minlength=len(found))
        inside = np.outer(np.bincount(cell_y, minlength=rows), np.bincount(cell_x, minlength=columns)).ravel()
        return (found.reshape(len(self), cells) / np.maximum(inside, 1)).astype(np.float32)

    def resized(self, size: tuple[int, int]) -> RegionSet:
        """The regions of a picture of another size: every pixel takes what lies at its centre; empty ones stay out."""
        if size == self.size:
            return self
        (height, width), (rows, columns) = self.size, size
        y, x = np.divmod(self.starts, width)

        def first(value: NDArray[np.int64], new: int, old: int) -> NDArray[np.int64]:
            return -((-(2 * value * new - old)) // (2 * old))  # first pixel whose centre lies at or behind it

        top, bottom = first(y, rows, height), first(y + 1, rows, height)
        left, right = first(x, columns, width), first(x + self.lengths, columns, width)
        repeats = np.where(right > left, bottom - top, 0)
        owners = np.repeat(np.repeat(np.arange(len(self)), np.diff(self.offsets)), repeats)
        within = np.arange(repeats.sum()) - np.repeat(repeats.cumsum() - repeats, repeats)
        starts = (np.repeat(top, repeats) + within) * columns + np.repeat(left, repeats)
        counts = np.bincount(owners, minlength=len(self))
        offsets = np.concatenate([[0], counts[counts > 0].cumsum()]).astype(np.int64)
        return RegionSet(size, starts, np.repeat(right - left, repeats), offsets, self.scores[counts > 0])

    def mirrored(self) -> RegionSet:
        """Left and right exchanged."""
        y, x = np.divmod(self.starts, self.size[1])
        starts = y * self.size[1] + self.size[1] - x - self.lengths
        return RegionSet(self.size, starts, self.lengths, self.offsets, self.scores)

    def cropped(self, top: int, bottom: int, left: int, right: int) -> RegionSet:
        """The part in rows ``top:bottom`` and columns ``left:right``, which may lie outside of the picture.

        All n regions stay, some without a pixel.
        """
        y, x = np.divmod(self.starts, self.size[1])
        start, end = np.maximum(x, left), np.minimum(x + self.lengths, right)
        kept = (y >= top) & (y < bottom) & (end > start)
        counts = np.concatenate([[0], kept.cumsum()])[self.offsets]
        starts = (y[kept] - top) * (right - left) + start[kept] - left
        size, lengths = (bottom - top, right - left), (end - start)[kept]
        return RegionSet(size, starts, lengths, counts.astype(np.int64), self.scores)

    def checked(self, size: tuple[int, int], source: object = "") -> RegionSet:
        """Itself. Raises InputError where the picture (H, W) has another size, or a run lies outside of it."""
        if self.size != size:
            raise InputError(
                f"regions of a picture of {self.size[1]} x {self.size[0]} pixels, this one has {size[1]} x {size[0]}",
                file=source, advice="cut the picture again, or give the regions of this picture",
            )  # fmt: skip
        return self

    def _runs(self, index: int) -> slice:
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def _pixels_by(self, order: NDArray[Any]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """(pixels, their regions) of some regions after another, about ``CHUNK`` pixels at once."""
        part: list[int] = []
        total = 0
        for i in [*order.tolist(), -1]:
            area = int(self.areas[i]) if i >= 0 else 0
            if part and (i < 0 or total + area > CHUNK):
                chosen = self.select(part)
                owners = np.repeat(np.asarray(part, np.int64), chosen.areas)
                yield _pixels(chosen.starts, chosen.lengths), owners
                part, total = [], 0
            part.append(i)
            total += area


Runs = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def _joined(size: tuple[int, int], runs: Runs, scores: NDArray[np.float32]) -> RegionSet:
    empty = np.zeros(0, np.int64)
    starts = np.concatenate([empty, *(s for s, _ in runs)])
    lengths = np.concatenate([empty, *(n for _, n in runs)])
    offsets = np.cumsum([0, *(len(s) for s, _ in runs)]).astype(np.int64)
    return RegionSet(size, starts, lengths, offsets, scores)


def _pixels(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every pixel of runs, one run after another."""
    if not len(starts):
        return np.zeros(0, np.int64)
    within = np.arange(int(lengths.sum())) - np.repeat(lengths.cumsum() - lengths, lengths)
    return np.asarray(np.repeat(starts, lengths) + within, np.int64)
