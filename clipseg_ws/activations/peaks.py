"""Instances from class peaks (PRM, Zhou et al., CVPR 2018, arXiv 1804.00880): every peak of a class map is one thing.

The paper follows each peak back through a network to its own response. Here a peak owns its basin: the cells that one
reaches from it going down before another peak's cells are met, as in a watershed. A peak counts if it rises far enough
above the pass to the next higher one (its prominence), so that noise makes no instances.
"""

from __future__ import annotations

import numpy as np
import scipy  # its parts are imported on first use

_EIGHT = np.ones((3, 3), bool)


def peak_basins(scores: np.ndarray, *, prominence: float = 0.2, floor: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Peaks of one map and which cell belongs to which.

    Args:
        scores: [h, w] non-negative. prominence: share of the map's maximum by which a peak must stand above the pass to
            a higher one. floor: share of the maximum below which nothing is a cell of any peak.

    Returns:
        peaks [P, 2] int64 (row, column), highest first (ties: reading order); basins [h, w] int64, 0 for no peak, else
        1 + the peak's row. An all-zero map has none.

    Raises:
        ValueError: a prominence or floor outside [0, 1).
    """
    if not (0 <= prominence < 1 and 0 <= floor < 1):
        raise ValueError(f"{prominence=}, {floor=}; shares in [0, 1) are needed, for example 0.2 and 0.1")
    height, width = scores.shape
    values = scores.ravel().astype(np.float64)
    least, lowest = prominence * values.max(), floor * values.max()
    order = np.argsort(-values, kind="stable")
    owner = np.full(values.size, -1)  # cell -> the peak cell of its basin
    root: dict[int, int] = {}  # peak cell -> the peak it was merged into
    for cell in order.tolist():
        if values[cell] <= 0 or values[cell] < lowest:
            break
        y, x = divmod(cell, width)
        rows, columns = range(max(y - 1, 0), min(y + 2, height)), range(max(x - 1, 0), min(x + 2, width))
        met = {_find(root, int(owner[r * width + c])) for r in rows for c in columns if owner[r * width + c] >= 0}
        ranked = sorted(met, key=lambda peak: (-values[peak], peak))
        owner[cell] = ranked[0] if ranked else cell
        root.setdefault(int(owner[cell]), int(owner[cell]))
        for lower in ranked[1:]:
            if values[lower] - values[cell] < least:
                root[lower] = ranked[0]
    summits = (peak for peak in root if root[peak] == peak and values[peak] >= least)
    kept = sorted(summits, key=lambda peak: (-values[peak], peak))
    number = {peak: i + 1 for i, peak in enumerate(kept)}
    basins = [number.get(_find(root, int(peak)), 0) if peak >= 0 else 0 for peak in owner]
    return np.array([divmod(peak, width) for peak in kept], np.int64).reshape(-1, 2), np.reshape(basins, scores.shape)


def peak_instances(
    mask: np.ndarray, scores: np.ndarray, *, prominence: float = 0.2, min_share: float = 0.001
) -> np.ndarray:
    """One class's mask cut into instances by the peaks of its map.

    Regions of the mask that do not touch are different instances; inside a region every peak with a basin there has its
    own. Specks under ``min_share`` of the picture, and pieces whose peak lies in another region, join the nearest
    instance.

    Args:
        mask: [H, W] bool. scores: [h, w] of the class on any grid over the same picture.

    Returns:
        [H, W] int32: 0 outside the mask, 1, 2, ... in reading order of their first pixels.
    """
    height, width = mask.shape
    peaks, basins = peak_basins(scores, prominence=prominence)
    rows, columns = (np.arange(n) * m // n for n, m in ((height, scores.shape[0]), (width, scores.shape[1])))
    piece = basins[np.ix_(rows, columns)]  # [H, W]
    regions, count = scipy.ndimage.label(mask, structure=_EIGHT)
    sizes = np.bincount(regions.ravel(), minlength=count + 1)
    large = [r for r in range(1, count + 1) if sizes[r] >= min_share * mask.size] or range(1, count + 1)
    out = np.zeros(mask.shape, np.int32)
    for region in large:
        inside = regions == region
        own = [p for p in range(1, len(peaks) + 1) if _holds(inside, piece == p, peaks[p - 1], scores.shape)]
        seeds = np.where(inside & np.isin(piece, own), piece, 0)
        if not seeds.any():
            seeds = inside.astype(np.int64)
        filled = _nearest(seeds)
        out[inside] = filled[inside] + out.max(initial=0)
    out = np.where(mask, _nearest(out), 0) if out.any() else out
    return _renumbered(out)


def box_instances(mask: np.ndarray, boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
    """One class's mask [H, W] bool cut by its boxes (x0, y0, x1, y1), ends exclusive: a pixel belongs to the smallest
    box that holds it. Returns int32 [H, W] as ``peak_instances``; pixels outside all boxes join the nearest instance.
    """
    out = np.zeros(mask.shape, np.int32)
    order = sorted(range(len(boxes)), key=lambda i: -(boxes[i][2] - boxes[i][0]) * (boxes[i][3] - boxes[i][1]))
    for i in order:
        x0, y0, x1, y1 = boxes[i]
        out[y0:y1, x0:x1] = i + 1
    out[~mask] = 0
    return _renumbered(np.where(mask, _nearest(out), 0) if out.any() else mask.astype(np.int32))


def _find(root: dict[int, int], peak: int) -> int:
    while root[peak] != peak:
        peak = root[peak]
    return peak


def _holds(inside: np.ndarray, piece: np.ndarray, peak: np.ndarray, grid: tuple[int, int]) -> bool:
    """Whether the cell of a peak has a pixel of its piece inside the region."""
    height, width = inside.shape
    ys = slice(-(-peak[0] * height // grid[0]), -(-(peak[0] + 1) * height // grid[0]))
    xs = slice(-(-peak[1] * width // grid[1]), -(-(peak[1] + 1) * width // grid[1]))
    return bool((inside[ys, xs] & piece[ys, xs]).any())


def _nearest(numbers: np.ndarray) -> np.ndarray:
    """Every zero replaced by the nearest number that is none."""
    places = scipy.ndimage.distance_transform_edt(numbers == 0, return_distances=False, return_indices=True)
    nearest: np.ndarray = numbers[tuple(places)]
    return nearest


def _renumbered(numbers: np.ndarray) -> np.ndarray:
    """1, 2, ... in reading order of the first pixels, int32; 0 stays."""
    values, first = np.unique(numbers, return_index=True)
    ranked = [int(v) for v in values[np.argsort(first)] if v]
    table = np.zeros(int(numbers.max(initial=0)) + 1, np.int32)
    table[ranked] = np.arange(1, len(ranked) + 1)
    renumbered: np.ndarray = table[numbers]
    return renumbered
