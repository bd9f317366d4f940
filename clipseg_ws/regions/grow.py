"""Regions grown by merging: small basins of the picture, then the best pair of neighbours again and again.

The start is a minimum spanning forest of the pixels' differences in colour (a watershed cut) with one root a cell. A
pair is the better the more alike its two regions are at several scales (mean CIELAB colour of the picture and of two
smoothed ones) and the more of the smaller one's border they share. Merging ends where the best pair is too unlike, or
enough regions are left.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from clipseg_ws.pictures.colours import lab
from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.regions.working import working

Floats = NDArray[np.float64]


def grow(
    image: NDArray[np.uint8], name: str = "", *, side: int = 8, distance: float = 4.5, count: int = 1,
    scales: Sequence[float] = (0.0, 2.0, 4.0), border: float = 0.5,
    max_side: int = 512,
) -> RegionSet:  # fmt: skip
    """A partition of the picture.

    Args:
        image: [H, W, 3] uint8. name: not read.
        side: pixels of a cell that gets one seed. distance: largest cost of a merge, in CIELAB units.
        count: merging stops at so many regions. scales: deviations of the Gaussians, in pixels, at which colours are
            compared; 0 is the picture itself. border: 0 to 1, how much a common border makes a merge cheaper.
        max_side: a larger picture is shrunk to this longer side, its regions are enlarged; 0: never.

    Returns:
        Regions that are connected and cover the picture.

    Raises:
        ValueError: a parameter out of its range.

    Example:
        >>> halves = np.repeat(np.array([[[0, 0, 0]] * 32 + [[255, 0, 0]] * 32], np.uint8), 32, 0)
        >>> grow(halves).areas.tolist()
        [1024, 1024]
    """
    if side < 1 or distance < 0 or count < 1 or not 0 <= border <= 1 or not scales or min(scales) < 0:
        raise ValueError(
            f"grow({side=}, {distance=}, {count=}, {scales=}, {border=}); allowed: side and count from 1, distance "
            "from 0, border in [0, 1], scales from 0, e.g. grow(side=8, distance=4.5)"
        )
    size = image.shape[:2]
    small = working(image, max_side)
    colours = lab(small.reshape(-1, 3) / 255.0).reshape(small.shape).astype(np.float32)
    seeds = basins(colours, side)
    features = pyramid(colours, scales)
    merged = merge_regions(*statistics(seeds, features), distance=distance, count=count, border=border)
    return RegionSet.from_labels(merged[seeds]).resized((size[0], size[1]))


def basins(colours: NDArray[np.float32], side: int) -> NDArray[np.int64]:
    """[H, W] start regions from 0: a minimum spanning forest over the four neighbours, one root a cell of ``side``
    pixels, at its flattest pixel (of equal ones the most central). Every region is connected."""
    height, width = colours.shape[:2]
    number = np.arange(height * width).reshape(height, width)
    ends = ((number[:, :-1], number[:, 1:]), (number[:-1], number[1:]))
    one, two = (np.concatenate([pair[k].ravel() for pair in ends]) for k in (0, 1))
    flat = colours.reshape(-1, colours.shape[2]).astype(np.float64)
    steps = np.linalg.norm(flat[one] - flat[two], axis=1)
    roots = _roots(steps, one, two, (height, width), side)
    root = np.full(len(roots), number.size)  # a node beyond the picture, nearer to every root than any two pixels
    weights = np.concatenate([steps + 1, np.full(len(roots), 0.5)])  # 0 would be no edge
    nodes = number.size + 1
    graph = coo_matrix((weights, (np.append(one, root), np.append(two, roots))), shape=(nodes, nodes)).tocsr()
    forest = minimum_spanning_tree(graph).tocoo()
    inner = (forest.row < number.size) & (forest.col < number.size)
    trees = coo_matrix((forest.data[inner], (forest.row[inner], forest.col[inner])), shape=(number.size, number.size))
    found = connected_components(trees.tocsr(), directed=False)[1]
    return np.asarray(found, np.int64).reshape(height, width)


def _roots(
    steps: Floats, one: NDArray[np.int64], two: NDArray[np.int64], size: tuple[int, int], side: int
) -> NDArray[np.int64]:
    """The flattest pixel of every cell: that with the smallest sum of steps to its neighbours."""
    height, width = size
    steep = np.bincount(one, steps, height * width) + np.bincount(two, steps, height * width)
    rows, columns = max(1, height // side), max(1, width // side)
    y, x = np.divmod(np.arange(height * width), width)
    cell_y, cell_x = y * rows // height, x * columns // width
    off = ((y + 0.5) * rows / height - cell_y - 0.5) ** 2 + ((x + 0.5) * columns / width - cell_x - 0.5) ** 2
    cells = cell_y * columns + cell_x
    order = np.lexsort((off, np.round(steep, 3), cells))
    return np.asarray(order[np.searchsorted(cells[order], np.arange(rows * columns))], np.int64)


def pyramid(colours: NDArray[np.float32], scales: Sequence[float]) -> NDArray[np.float32]:
    """[H, W, 3 * len(scales)]: the colours smoothed at every scale."""
    smooth = [colours if not s else ndimage.gaussian_filter(colours, (s, s, 0)) for s in scales]
    root = np.float32(len(scales) ** 0.5)  # a distance is the root mean square over scales
    return np.asarray(np.concatenate(smooth, 2) / root, np.float32)


def statistics(seeds: NDArray[np.int64], features: NDArray[np.float32]) -> tuple[Floats, Floats, dict[int, Floats]]:
    """Sums [n, D] and areas [n] of the start regions, and the lengths of common borders: pairs [m, 2] and lengths [m]
    as {0: pairs, 1: lengths}."""
    count = int(seeds.max()) + 1
    areas: Floats = np.bincount(seeds.ravel(), minlength=count).astype(np.float64)
    flat = features.reshape(-1, features.shape[2])
    sums: Any = np.stack([np.bincount(seeds.ravel(), flat[:, d], count) for d in range(flat.shape[1])], 1)
    sides = [np.stack([seeds[:, :-1], seeds[:, 1:]], -1), np.stack([seeds[:-1], seeds[1:]], -1)]
    pairs = np.sort(np.concatenate([s.reshape(-1, 2) for s in sides]), 1)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    codes, lengths = np.unique(pairs[:, 0] * count + pairs[:, 1], return_counts=True)
    borders = np.stack(np.divmod(codes, count), 1).astype(np.float64)
    return sums, areas, {0: borders, 1: lengths.astype(np.float64)}


def cost(sums: Floats, areas: Floats, edges: Floats, a: int, b: int, shared: float, border: float) -> float:
    """Of merging a and b: distance of their mean features, less the share of the shorter border that is common.

    Small regions are cheap: the distance is scaled by 2 min(areas) / sum(areas), so that specks join first.
    """
    apart = float(np.linalg.norm(sums[a] / areas[a] - sums[b] / areas[b]))
    inner = min(1.0, shared / max(min(edges[a], edges[b]), 1.0))
    small = (2 * min(areas[a], areas[b]) / (areas[a] + areas[b])) ** 0.25
    return float(apart * (1 - border * inner) * small)


def merge_regions(
    sums: Floats, areas: Floats, borders: dict[int, Floats], *, distance: float, count: int, border: float
) -> NDArray[np.int64]:
    """[n] the region that each start region ends in, from 0 without gaps. The arguments are as in ``statistics``.

    The cheapest pair merges first; equal ones in the order of their numbers.
    """
    sums, areas = sums.copy(), areas.copy()
    neighbours: list[dict[int, float]] = [{} for _ in areas]
    for (a, b), length in zip(borders[0].astype(np.int64).tolist(), borders[1].tolist(), strict=True):
        neighbours[a][b] = neighbours[b][a] = length
    edges = np.array([sum(own.values()) for own in neighbours])
    parent, version = list(range(len(areas))), [0] * len(areas)
    heap = [
        (cost(sums, areas, edges, a, b, shared, border), a, b, 0, 0)
        for a, own in enumerate(neighbours) for b, shared in own.items() if a < b
    ]  # fmt: skip
    heapq.heapify(heap)
    left = len(areas)
    while heap and left > count:
        price, a, b, of_a, of_b = heapq.heappop(heap)
        if version[a] != of_a or version[b] != of_b:
            continue  # one of them has changed since
        if price > distance:
            break
        _join(a, b, sums, areas, edges, neighbours)
        parent[b], version[b], left = a, -1, left - 1
        version[a] += 1
        for other, shared in neighbours[a].items():
            low, high = min(a, other), max(a, other)
            price = cost(sums, areas, edges, low, high, shared, border)
            heapq.heappush(heap, (price, low, high, version[low], version[high]))
    roots = [_root(parent, i) for i in range(len(parent))]
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)


def _join(a: int, b: int, sums: Floats, areas: Floats, edges: Floats, neighbours: list[dict[int, float]]) -> None:
    """b becomes part of a."""
    sums[a] += sums[b]
    areas[a] += areas[b]
    edges[a] += edges[b] - 2 * neighbours[a].pop(b)
    del neighbours[b][a]
    for other, shared in neighbours[b].items():
        del neighbours[other][b]
        neighbours[a][other] = neighbours[other][a] = neighbours[a].get(other, 0.0) + shared
    neighbours[b] = {}


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        i = parent[i]
    return i
