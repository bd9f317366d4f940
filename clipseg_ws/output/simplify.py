"""Outlines with fewer corners, within a stated distance (Douglas and Peucker, 1973). numpy only."""

from __future__ import annotations

from itertools import pairwise

import numpy as np


def simplified(polygon: np.ndarray, tolerance: float) -> np.ndarray:
    """A closed polygon of which every point lies within ``tolerance`` of the given one's outline.

    Args:
        polygon: [n, 2] corners (x, y); the last joins the first. Corners that occur twice (bridges to holes) stay.
        tolerance: in the unit of the corners; 0: the polygon as it is.

    Returns:
        [m, 2] with 3 <= m <= n, a part of the corners; the polygon itself where less would have no area.
    """
    if tolerance <= 0 or len(polygon) <= 4:
        return polygon
    _, inverse, counts = np.unique(polygon, axis=0, return_inverse=True, return_counts=True)
    fixed = counts[inverse.reshape(-1)] > 1
    fixed[0] = True
    fixed[int(((polygon - polygon[0]) ** 2).sum(1).argmax())] = True
    anchors = [*np.flatnonzero(fixed).tolist(), len(polygon)]
    closed = np.concatenate([polygon, polygon[:1]]).astype(float)
    keep = np.zeros(len(closed), bool)
    for first, last in pairwise(anchors):
        _keep(closed, first, last, tolerance, keep)
    chosen = polygon[keep[:-1]]
    return chosen if len(chosen) >= 3 and _area(chosen) else polygon


def _keep(points: np.ndarray, first: int, last: int, tolerance: float, keep: np.ndarray) -> None:
    """Mark the points between two that are needed, and both ends."""
    keep[[first, last]] = True
    open_ = [(first, last)]
    while open_:
        a, b = open_.pop()
        if b - a < 2:
            continue
        far = _distances(points[a + 1 : b], points[a], points[b])
        worst = int(far.argmax())
        if far[worst] > tolerance:
            middle = a + 1 + worst
            keep[middle] = True
            open_ += [(a, middle), (middle, b)]


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Of points [n, 2] from the line between two."""
    along, lead = end - start, points - start
    length = float(along @ along)
    share = np.clip(lead @ along / length, 0, 1) if length else np.zeros(len(points))
    result: np.ndarray = np.hypot(*(lead - share[:, None] * along).T)
    return result


def _area(ring: np.ndarray) -> float:
    x, y = ring[:, 0], ring[:, 1]
    return abs(float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()))
