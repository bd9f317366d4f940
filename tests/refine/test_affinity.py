"""Affinity and boxes against slow, plain versions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipseg_ws.refine.affinity import apply_affinity, box_mask, class_aware_affinity


def slow_boxes(grid: list[list[int]], share: float, exclude_last: bool) -> list[list[int]]:
    """Flood fill over 8 neighbours, box by box, on an integer grid of 0..255."""
    height, width = len(grid), len(grid[0])
    limit = int(max(max(row) for row in grid) * share)
    mask = [[0] * width for _ in range(height)]
    seen = set()
    for y in range(height):
        for x in range(width):
            if grid[y][x] <= limit or (y, x) in seen:
                continue
            stack, region = [(y, x)], []
            seen.add((y, x))
            while stack:
                cy, cx = stack.pop()
                region.append((cy, cx))
                for ny in range(max(cy - 1, 0), min(cy + 2, height)):
                    for nx in range(max(cx - 1, 0), min(cx + 2, width)):
                        if (ny, nx) not in seen and grid[ny][nx] > limit:
                            seen.add((ny, nx))
                            stack.append((ny, nx))
            y1, x1 = max(p[0] for p in region) + 1, max(p[1] for p in region) + 1
            if exclude_last:
                y1, x1 = min(y1, max(height - 1, 1)), min(x1, max(width - 1, 1))
            for by in range(min(p[0] for p in region), y1):
                for bx in range(min(p[1] for p in region), x1):
                    mask[by][bx] = 1
    return mask


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 9), st.booleans(), st.sampled_from([0.4, 0.7]))
def test_boxes_equal_flood_fill(seed, height, width, exclude_last, share):
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (2, 3, height, width), generator=generator)
    levels[0, 1] = 0  # an absent class
    got = box_mask((levels.float() + 0.5) / 255 * (levels > 0), share, exclude_last=exclude_last)
    for b in range(2):
        for k in range(3):
            want = slow_boxes(levels[b, k].tolist(), share, exclude_last)
            assert got[b, k].tolist() == want


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_pictures_of_one_row_keep_it(shape):
    maps = torch.rand(1, 2, *shape) + 0.1
    maps[0, :, 0, 0] = 1
    assert box_mask(maps, exclude_last=True)[0, :, 0, 0].all()
    spread = class_aware_affinity(maps, torch.rand(1, shape[0] * shape[1], shape[0] * shape[1]), exclude_last=True)
    assert torch.isfinite(spread).all() and (spread.amax((-2, -1)) > 0).all() == (max(shape) > 1)


def test_a_patch_that_nobody_looks_at():
    attention = torch.rand(1, 6, 6)
    attention[0, :, 2] = attention[0, 4] = 0
    spread = class_aware_affinity(torch.rand(1, 2, 2, 3), attention)
    assert torch.isfinite(spread).all() and spread.amax().item() == pytest.approx(1)


def test_affinity_equals_the_matrix_form():
    torch.manual_seed(0)
    attention = torch.rand(2, 12, 12)
    vectors = torch.rand(2, 12, 3)
    t = attention.clone()
    for _ in range(3):
        t = t / t.sum(1, keepdim=True)
        t = t / t.sum(2, keepdim=True)
    m = (t + t.transpose(1, 2)) / 2
    assert torch.allclose(apply_affinity(attention, vectors), m @ m @ vectors, atol=1e-6)


def test_zero_map_stays_zero_and_batch_does_not_matter():
    torch.manual_seed(1)
    maps = torch.rand(2, 3, 3, 4)
    maps[1, 2] = 0
    attention = torch.rand(2, 12, 12)
    refined = class_aware_affinity(maps, attention)
    assert refined[1, 2].abs().max() == 0
    assert refined.amin() >= 0 and refined.amax() <= 1
    assert torch.equal(refined[1:], class_aware_affinity(maps[1:], attention[1:]))


def test_wrong_attention_is_named():
    with pytest.raises(ValueError, match=r"here \[2, 12, 12\]"):
        class_aware_affinity(torch.rand(2, 1, 3, 4), torch.rand(2, 13, 13))
