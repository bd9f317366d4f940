"""Boundary maps: bags by loops, and edges that only the sure patches on both sides can tell from texture."""

from __future__ import annotations

import math

import pytest
import torch

from clipseg_ws.refine.boundary import bag_loss, boundary_map, edges, spread_to_boundaries, sure_labels, ways
from clipseg_ws.structures import IGNORE


def on_the_way(boundary, y, x, dy, dx):
    count = max(abs(dy), abs(dx))
    return max(float(boundary[y + round(dy * i / count), x + round(dx * i / count)]) for i in range(count + 1))


def pairs(h, w, radius):
    for y in range(h):
        for x in range(w):
            for dy in range(radius + 1):
                for dx in range(-radius, radius + 1):
                    if (dy, dx) > (0, 0) and dy * dy + dx * dx <= radius * radius and y + dy < h and 0 <= x + dx < w:
                        yield y, x, dy, dx


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_bags_by_loops(radius):
    g = torch.Generator().manual_seed(radius)
    boundary = torch.rand(1, 4, 5, generator=g) * 0.9 + 0.05
    labels = torch.tensor([0, 1, IGNORE])[torch.randint(0, 3, (1, 4, 5), generator=g)]
    within, between = [], []
    for y, x, dy, dx in pairs(4, 5, radius):
        a, b, largest = labels[0, y, x], labels[0, y + dy, x + dx], on_the_way(boundary[0], y, x, dy, dx)
        if a != IGNORE and b != IGNORE:
            (within if a == b else between).append(-math.log(1 - largest if a == b else largest))
    want = (sum(within) / len(within) + sum(between) / len(between)) / 2
    assert float(bag_loss(boundary, labels, radius)) == pytest.approx(want, rel=1e-5)
    assert sum(largest.numel() for *_, largest in ways(boundary, radius)) == len(list(pairs(4, 5, radius)))


def striped():
    """Ten columns: a strong edge of texture inside the class (between 1 and 2), a faint one where it ends (5 and 6)."""
    along = torch.tensor([0.0, 0, 1.2, 1.2, 1.2, 1.2, 1.5, 1.5, 1.5, 1.5])
    features = torch.stack([along.cos(), along.sin()])[None, :, None].expand(1, 2, 4, 10).contiguous()
    labels = torch.full((1, 4, 10), IGNORE)
    labels[..., :5], labels[..., 7:] = 1, 0
    return features, labels


def test_texture_is_no_boundary_and_a_faint_end_is_one():
    features, labels = striped()
    plain, fitted = edges(features)[0].mean(0), boundary_map(features, labels)[0].mean(0)
    assert plain[1:3].min() > plain[5:7].max()  # the edges alone are wrong
    assert fitted[5:7].max() > 0.8 and fitted[:5].max() < 0.2
    assert torch.allclose(boundary_map(features, labels, steps=0)[0].mean(0), plain, atol=1e-3)


def test_maps_spread_inside_and_stop_outside():
    features, labels = striped()
    maps = torch.zeros(1, 1, 4, 10)
    maps[..., 0] = 1.0
    maps[..., 3] = 0.6
    with torch.inference_mode():
        found = boundary_map(features, labels)
        spread = spread_to_boundaries(maps, found, rounds=16)[0, 0].mean(0)
        by_edges = spread_to_boundaries(maps, edges(features), rounds=16)[0, 0].mean(0)
    assert spread.max() == pytest.approx(1.0) and spread[:5].min() > 0.5 and spread[7:].max() < 0.1
    assert spread[:5].min() / spread[7:].max() > 5 * by_edges[:5].min() / by_edges[7:].max()


def test_sure_patches_by_hand():
    maps = torch.tensor([[[[1.0, 0.5, 0.1]], [[0.0, 0.2, 0.02]]]])
    assert sure_labels(maps, 0.7, 0.2).tolist() == [[[1, 2, 0]]]
    assert sure_labels(maps[:, :1], 0.7, 0.2).tolist() == [[[1, IGNORE, 0]]]
