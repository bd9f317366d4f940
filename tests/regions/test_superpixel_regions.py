"""SLIC finds colour blocks; refused values and a missing package."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from clipseg_ws.regions.superpixels import felzenszwalb, slic, slic_segments

needs_skimage = pytest.mark.skipif(not find_spec("skimage"), reason="extra [superpixels] is not installed")


def drawn(height: int = 40, width: int = 56) -> torch.Tensor:
    """Two pictures of 5 x 7 colour blocks, float [2, 3, H, W]."""
    coarse = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="nearest")


@needs_skimage
def test_segments_follow_the_picture_and_have_the_wished_size():
    image = drawn()
    segments = slic_segments(image, side=8)
    assert segments.dtype == torch.int64 and segments.shape == (2, 40, 56) and segments.min() == 0
    assert 20 <= int(segments[0].max()) + 1 <= 50  # 40 * 56 / 64 = 35 wished
    pure = 0
    for number in segments[0].unique():
        colours = image[0][:, segments[0] == number]
        pure += int((colours == colours[:, :1]).all())
    assert pure >= 0.9 * (int(segments[0].max()) + 1)  # the 8 x 8 colour blocks are found
    for row in range(2):
        assert segments[row].unique().tolist() == list(range(int(segments[row].max()) + 1))
        assert torch.equal(slic_segments(image[row : row + 1], side=8)[0], segments[row])
    assert torch.equal(slic_segments((image * 255).round().to(torch.uint8), side=8), segments)
    bytes_ = (image[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert np.array_equal(slic(bytes_, side=8).partition(), segments[0].numpy())


@needs_skimage
def test_felzenszwalb_finds_the_blocks():
    picture = (drawn()[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    found = felzenszwalb(picture, scale=1, sigma=0, min_size=4)
    assert len(found) == 35 and set(found.areas.tolist()) == {64}


def test_refused_values_and_a_missing_package(monkeypatch):
    for given in ({"side": 0}, {"compactness": 0}):
        with pytest.raises(ValueError, match="allowed: >= 1 pixel and > 0"):
            slic_segments(drawn(), **given)
    with pytest.raises(ValueError, match="min_size=0"):
        felzenszwalb(np.zeros((4, 4, 3), np.uint8), min_size=0)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r'pip install "clipseg_ws\[superpixels\]"'):
        slic_segments(drawn())
