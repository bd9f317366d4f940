"""Region growing against a slow oracle that looks at all pairs before every merge; what it finds in drawn pictures."""

from __future__ import annotations

import numpy as np
import pytest

from clipseg_ws.regions.grow import basins, grow, merge_regions, pyramid, statistics


def slow_merge(seeds, features, distance, count, border):
    """Every pair of neighbours is priced anew from the pixels before each merge. Returns [n] root of each start."""
    current = seeds.copy()
    roots = {i: i for i in range(int(seeds.max()) + 1)}
    while len(np.unique(current)) > count:
        best = None
        for a, b, shared in sorted(_borders(current)):
            price = _price(current, features, a, b, shared, border)
            if best is None or price < best[0]:
                best = (price, a, b)
        if best is None or best[0] > distance:
            break
        _, a, b = best
        current[current == b] = a
        roots = {i: a if r == b else r for i, r in roots.items()}
    return np.unique([roots[i] for i in range(len(roots))], return_inverse=True)[1]


def _borders(labels):
    counts = {}
    for one, two in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        for a, b in zip(one.ravel().tolist(), two.ravel().tolist(), strict=True):
            if a != b:
                key = (min(a, b), max(a, b))
                counts[key] = counts.get(key, 0) + 1
    return [(a, b, n) for (a, b), n in counts.items()]


def _price(labels, features, a, b, shared, border):
    one, two = labels == a, labels == b
    apart = np.linalg.norm(features[one].astype(float).mean(0) - features[two].astype(float).mean(0))
    edges = {n: sum(s for x, y, s in _borders(labels) if n in (x, y)) for n in (a, b)}
    inner = min(1.0, shared / max(min(edges.values()), 1))
    small = (2 * min(one.sum(), two.sum()) / (one.sum() + two.sum())) ** 0.25
    return apart * (1 - border * inner) * small


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("distance", "count"), [(1e9, 3), (20.0, 1), (0.0, 1)])
def test_the_heap_merges_as_a_slow_search(seed, distance, count):
    rng = np.random.default_rng(seed)
    colours = rng.normal(size=(18, 23, 3)).astype(np.float32) * 20
    seeds = basins(colours, 5)
    features = pyramid(colours, (0.0, 1.5))
    fast = merge_regions(*statistics(seeds, features), distance=distance, count=count, border=0.5)
    assert fast.tolist() == slow_merge(seeds, features, distance, count, 0.5).tolist()
    assert len(np.unique(fast)) >= count


def test_basins_are_connected_and_cover_the_picture():
    from scipy import ndimage

    colours = np.random.default_rng(1).normal(size=(30, 41, 3)).astype(np.float32)
    found = basins(colours, 8)
    assert found.min() == 0 and found.max() + 1 == 3 * 5
    assert all(ndimage.label(found == i)[1] == 1 for i in range(15))


def test_blocks_of_one_colour_are_found_whole():
    truth = np.kron(np.arange(12).reshape(3, 4), np.ones((24, 24), int))
    palette = np.random.default_rng(5).integers(0, 256, (12, 3))
    picture = palette[truth].astype(np.uint8)
    found = grow(picture, distance=4.5).partition()
    for block in range(12):
        inner = found[truth == block]
        values, counts = np.unique(inner, return_counts=True)
        own = found == values[counts.argmax()]
        assert (own & (truth == block)).sum() / (own | (truth == block)).sum() > 0.9


def test_large_pictures_are_cut_small_and_tiny_ones_are_one_region():
    picture = np.zeros((60, 90, 3), np.uint8)
    picture[:, 44:] = 255
    found = grow(picture, max_side=45)
    areas = sorted(found.areas.tolist())
    assert found.size == (60, 90) and areas[-2] == 60 * 44 and areas[-1] > 0.95 * 60 * 46
    assert len(grow(np.zeros((1, 1, 3), np.uint8))) == 1
    with pytest.raises(ValueError, match="allowed: side and count from 1"):
        grow(picture, side=0)
    with pytest.raises(ValueError, match="max_side=-1"):
        grow(picture, max_side=-1)
