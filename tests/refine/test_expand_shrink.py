"""Expand and shrink against a loop, and what it is for."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from clipseg_ws.refine.expand_shrink import expand_shrink


def test_every_cell_against_a_loop():
    torch.manual_seed(0)
    maps, features = torch.rand(2, 2, 3, 4), F.normalize(torch.randn(2, 12, 6), dim=-1)
    maps[1, 1] = 0
    got = expand_shrink(maps, features, power=0.5, sharpness=3.0)
    for b in range(2):
        best = maps[b].amax(0).flatten()
        ground = F.normalize(sum((1 - best[n]) ** 2 * features[b, n] for n in range(12)), dim=0)
        for k in range(2):
            flat = maps[b, k].flatten()
            core = F.normalize(sum(flat[n] ** 2 * features[b, n] for n in range(12)), dim=0)
            cells = [
                math.sqrt(flat[n]) / (1 + math.exp(-3 * float(features[b, n] @ (core - ground)))) for n in range(12)
            ]
            want = torch.tensor(cells) / max(*cells, 1e-7)
            assert torch.allclose(got[b, k].flatten(), want, atol=1e-5)
    assert not got[1, 1].any()


def test_a_faint_part_rises_and_faint_ground_does_not():
    thing, ground = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    features = torch.stack([thing, thing, ground, ground])[None]
    maps = torch.tensor([[[[1.0, 0.2, 0.2, 0.0]]]])
    out = expand_shrink(maps, features)[0, 0, 0]
    assert out[1] > 0.4 and out[2] < 0.15 and out[3] == 0


def test_none_and_wrong():
    features = F.normalize(torch.randn(1, 12, 6), dim=-1)
    assert expand_shrink(torch.rand(1, 0, 3, 4), features).shape == (1, 0, 3, 4)
    with pytest.raises(ValueError, match="power=0"):
        expand_shrink(torch.rand(1, 1, 3, 4), features, power=0)
