"""Network sizes and enlarged maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipseg_ws.pictures.sizes import resize_maps, target_size


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((500, 375, 16), (384, 512)),
        ((512, 384, 16), (384, 512)),
        ((1, 17, 16), (32, 16)),
        ((500, 375, 16, 336), (336, 448)),
        ((2048, 1024, 16, 336, 448), (224, 448)),  # the long side decides
        ((1000, 300, 14, None, 500), (154, 504)),  # long side alone only shrinks
        ((100, 30, 14, None, 500), (42, 112)),
        ((375, 500, 1, 336), (448, 336)),  # patch 1: the exact size, as mmcv rounds
    ],
)
def test_target_size(arguments, expected):
    assert target_size(*arguments) == expected


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.sampled_from([14, 16, 32]),
    st.none() | st.integers(1, 800),
    st.none() | st.integers(1, 2048),
    st.none() | st.integers(1, 3000),
)
def test_target_size_properties(width, height, patch, short, long, most):
    h, w = target_size(width, height, patch, short, long, most)
    assert h % patch == w % patch == 0 and min(h, w) > 0
    if long is not None:
        assert max(h, w) < long + patch + 1
    if most is not None:
        assert (h // patch) * (w // patch) <= most
    elif short is None and long is None:
        assert 0 <= h - height < patch and 0 <= w - width < patch


def test_max_patches_keeps_the_aspect():
    assert target_size(4000, 3000, 16, max_patches=2304) == (41 * 16, 55 * 16)


def test_resize_maps_against_numpy_interpolation():
    maps = torch.rand(2, 3, 4, 5)
    resized = resize_maps(maps, (7, 11))
    y = np.clip((np.arange(7) + 0.5) * 4 / 7 - 0.5, 0, 3)
    x = np.clip((np.arange(11) + 0.5) * 5 / 11 - 0.5, 0, 4)
    rows = np.stack([np.interp(y, range(4), column) for column in maps[1, 2].numpy().T], axis=1)
    expected = np.stack([np.interp(x, range(5), row) for row in rows])
    np.testing.assert_allclose(resized[1, 2].numpy(), expected, atol=1e-6)
    assert resize_maps(torch.rand(2, 0, 4, 5), (7, 11)).shape == (2, 0, 7, 11)


@pytest.mark.parametrize(
    ("width", "height", "short", "size"),
    [
        (500, 375, 336, (336, 448)),
        (200, 133, 100, (100, 150)),
        (300, 199, 100, (100, 151)),
        (301, 200, 100, (100, 151)),
    ],
)
def test_sides_are_rounded_to_whole_pixels(width, height, short, size):
    assert target_size(width, height, 1, short) == size
