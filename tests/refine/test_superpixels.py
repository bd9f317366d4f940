"""Superpixel means against plain loops; scikit-image is an extra."""

from __future__ import annotations

import sys

import pytest
import torch

from clipseg_ws.refine.superpixels import superpixel_mean
from clipseg_ws.regions.superpixels import slic_segments


def drawn(height: int = 40, width: int = 56):
    """Two smooth random pictures and scores with an absent class."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(2, 3, 5, 7, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(height, width), mode="nearest")
    scores = torch.rand(2, 3, height, width, generator=generator)
    scores[:, 1] = 0
    return scores, image


@pytest.fixture(autouse=True, scope="module")
def library():
    pytest.importorskip("skimage", reason="extra [superpixels] is not installed")


def test_every_segment_gets_its_mean():
    scores, image = drawn()
    segments = slic_segments(image, side=8)
    found = superpixel_mean(scores, image, side=8)
    for b in range(2):
        for number in segments[b].unique():
            inside = segments[b] == number
            for c in range(3):
                expected = scores[b, c][inside].mean()
                torch.testing.assert_close(found[b, c][inside], expected.expand(int(inside.sum())))
    assert (found[:, 1] == 0).all()


def test_batch_dtype_sums_blend_and_arguments():
    scores, image = drawn()
    shares = scores.softmax(1)
    kept = shares.clone(), image.clone()
    found = superpixel_mean(shares, image)
    alone = torch.cat([superpixel_mean(shares[i : i + 1], image[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(found, alone, rtol=0, atol=0)
    torch.testing.assert_close(found.sum(1), torch.ones(2, 40, 56))
    assert torch.equal(shares, kept[0]) and torch.equal(image, kept[1])
    torch.testing.assert_close(superpixel_mean(shares, image, blend=0.25), 0.75 * shares + 0.25 * found)
    assert torch.equal(superpixel_mean(shares, image, blend=0.0), shares)
    assert superpixel_mean(shares.bfloat16(), (image * 255).round().to(torch.uint8)).dtype == torch.bfloat16


def test_refused_inputs_and_missing_package(monkeypatch):
    scores, image = drawn()
    with pytest.raises(ValueError, match="differ in size"):
        superpixel_mean(scores[..., 1:], image)
    with pytest.raises(ValueError, match="blend=2"):
        superpixel_mean(scores, image, blend=2)
    with pytest.raises(ValueError, match="allowed: >= 1 pixel"):
        superpixel_mean(scores, image, side=0)
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r'pip install "clipseg_ws\[superpixels\]"'):
        superpixel_mean(scores, image)
