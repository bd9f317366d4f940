"""Several looks as one map: the mean where they agree, less where they do not."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.activations.multiscale import agree, mirror


def test_equal_looks_give_the_map_itself():
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 4, 6)
    maps -= maps.amin((-2, -1), keepdim=True)
    maps /= maps.amax((-2, -1), keepdim=True)
    maps[1, 0] = 0
    looks = [maps, mirror(mirror(maps))]
    assert torch.allclose(agree(looks, (4, 6), doubt=2.0), maps, atol=1e-5)
    assert not agree(looks, (8, 9))[1, 0].any() and agree(looks, (8, 9)).shape == (2, 3, 8, 9)


def test_what_one_look_sees_alone_counts_less():
    one = torch.zeros(1, 1, 2, 4)
    one[..., 0, 0], one[..., 0, 3] = 1.0, 1.0
    other = torch.zeros(1, 1, 2, 4)
    other[..., 0, 0] = 1.0
    for doubt, left in ((0.0, 0.5), (0.5, 0.25), (1.0, 0.0)):  # mean 0.5, deviation 0.5
        out = agree([one, other], (2, 4), doubt=doubt)
        assert out[0, 0, 0, 0] == pytest.approx(1.0, abs=1e-5)
        assert out[0, 0, 0, 3] == pytest.approx(left, abs=1e-5)


def test_scales_are_brought_to_one_grid():
    """A half-sized look of a blob lands on the blob, not beside it."""
    large = torch.zeros(1, 1, 8, 12)
    large[..., 2:6, 6:10] = 1
    small = torch.zeros(1, 1, 4, 6)
    small[..., 1:3, 3:5] = 1
    out = agree([large, small], (8, 12))
    assert out[..., 3:5, 7:9].min() > 0.95 and out[..., :, :4].max() < 1e-6


def test_none_and_wrong():
    assert agree([torch.rand(2, 0, 3, 4)], (3, 4)).shape == (2, 0, 3, 4)
    with pytest.raises(ValueError, match="0 looks"):
        agree([], (3, 4))
    with pytest.raises(ValueError, match="doubt=-1"):
        agree([torch.rand(1, 1, 3, 4)], (3, 4), doubt=-1)
