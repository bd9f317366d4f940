"""Exact outlines of masks: polygons along the pixel borders, holes cut in by bridges of no width. numpy and scipy."""

from __future__ import annotations

import numpy as np
import scipy  # its parts are imported on first use

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # (x, y) of the directions right, down, left, up: each turns clockwise


def polygons(mask: np.ndarray) -> list[np.ndarray]:
    """One closed polygon for every 4-connected region of a mask.

    Args:
        mask: [H, W] bool.

    Returns:
        For each region, in reading order of its first pixel, [n, 2] int64 corners (x, y) in pixel borders: a pixel
        covers [x, x+1] x [y, y+1], so that values run from 0 to W and 0 to H. The last corner joins the first. Holes
        belong to the polygon, reached over a bridge that runs there and back: filling the polygon (even-odd or
        non-zero) gives back exactly the region's pixels.
    """
    return [_join(rings) for rings in regions(mask)]


def regions(mask: np.ndarray) -> list[list[np.ndarray]]:
    """The rings of every 4-connected region: first the outer one (clockwise on the screen), then its holes.

    Same order and coordinates as ``polygons``; rings hold only corners, each once.
    """
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"a mask is bool [H, W], got {mask.dtype} {list(mask.shape)}")
    numbers, count = scipy.ndimage.label(mask)  # default structure: 4 neighbours
    found: list[list[np.ndarray]] = [[] for _ in range(count)]
    for owner, ring in _rings(mask, numbers):
        found[owner - 1].append(ring)
    return [sorted(rings, key=_doubled_area, reverse=True) for rings in found]  # holes run the other way: negative


def _rings(mask: np.ndarray, numbers: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(region number, corners) of every closed line of pixel borders that has the mask at its right hand."""
    start, direction, owner = _borders(mask, numbers)
    width = mask.shape[1] + 1  # corners in a row
    steps = np.array([x + y * width for x, y in _STEPS])
    at = np.full((4, width * (mask.shape[0] + 1)), -1)  # [direction, corner] -> border that leaves there
    at[direction, start] = np.arange(len(start))
    end = start + steps[direction]
    follower = np.full(len(start), -1)
    for turn in (3, 0, 1):  # a right turn wins where two pixels touch in a corner only: it stays at the same pixel
        option = at[(direction + turn) % 4, end]
        follower = np.where(option >= 0, option, follower)
    corner = direction != direction[follower]  # the border's end is a corner of the ring
    following, ends, is_corner = follower.tolist(), end.tolist(), corner.tolist()
    seen = bytearray(len(following))
    rings = []
    for first in range(len(following)):
        if seen[first]:
            continue
        points, border = [], first
        while not seen[border]:
            seen[border] = 1
            if is_corner[border]:
                points.append(ends[border])
            border = following[border]
        places = np.array(points)
        rings.append((int(owner[first]), np.stack([places % width, places // width], 1)))  # [n, 2] as (x, y)
    return rings


def _borders(mask: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start corner (y * (W+1) + x), direction 0..3 and region of each pixel side that lies between mask and rest."""
    width = mask.shape[1]
    padded = np.pad(mask, 1)
    outside = {  # direction of walking with the mask at the right hand -> the pixel at the left hand is not mask
        0: ~padded[:-2, 1:-1],
        1: ~padded[1:-1, 2:],
        2: ~padded[2:, 1:-1],
        3: ~padded[1:-1, :-2],
    }
    first_corner = ((0, 0), (1, 0), (1, 1), (0, 1))  # (x, y) within the pixel, where that side begins
    starts, directions, owners = [], [], []
    for direction, free in outside.items():
        y, x = np.nonzero(mask & free)
        dx, dy = first_corner[direction]
        starts.append((y + dy) * (width + 1) + x + dx)
        directions.append(np.full(len(y), direction))
        owners.append(numbers[y, x])
    return np.concatenate(starts), np.concatenate(directions), np.concatenate(owners)


def _doubled_area(ring: np.ndarray) -> int:
    x, y = ring[:, 0], ring[:, 1]
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())


def _join(rings: list[np.ndarray]) -> np.ndarray:
    """Outer ring and holes -> one polygon. From each hole's leftmost corner a bridge runs left to the next border.

    Holes are joined from left to right, so what a bridge meets is the outer ring or a hole already joined.
    """
    polygon = rings[0]
    starts = [int(np.lexsort((hole[:, 1], hole[:, 0]))[0]) for hole in rings[1:]]
    for hole, top in sorted(zip(rings[1:], starts, strict=True), key=lambda pair: tuple(pair[0][pair[1]])):
        x0, y0 = hole[top]
        here, there = polygon, np.roll(polygon, -1, axis=0)
        hit = (here[:, 0] == there[:, 0]) & (here[:, 0] <= x0)
        hit &= (np.minimum(here[:, 1], there[:, 1]) <= y0) & (y0 <= np.maximum(here[:, 1], there[:, 1]))
        edge = int(np.where(hit, here[:, 0], -1).argmax())
        foot = np.array([[here[edge, 0], y0]])
        loop = np.concatenate([np.roll(hole, -top, axis=0), hole[top : top + 1]])  # around the hole, back to its corner
        polygon = np.concatenate([polygon[: edge + 1], foot, loop, foot, polygon[edge + 1 :]])
    return polygon
