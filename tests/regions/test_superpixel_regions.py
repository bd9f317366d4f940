"""Every cutter of a picture keeps the promises of the room; SLIC finds colour blocks."""

from __future__ import annotations

import inspect
import sys
from importlib.util import find_spec

import pytest
import torch

from clipseg_ws.regions import REGIONS
from clipseg_ws.regions.superpixels import slic_segments

NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(bool(entry.needs) and not find_spec(entry.needs[0]), reason=name))
    for name, entry in REGIONS.items()
]


def drawn(height: int = 40, width: int = 56) -> torch.Tensor:
    """Two pictures of 5 x 7 colour blocks, float [2, 3, H, W]."""
    coarse = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="nearest")


@pytest.mark.parametrize("name", NAMES)
def test_every_cutter_keeps_the_promises(name):
    entry, image = REGIONS[name], drawn()
    cut, kept = entry.load(), image.clone()
    keywords = [p for p in inspect.signature(cut).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert {p.name: p.default for p in keywords} == dict(entry.parameters)
    regions = cut(image)
    assert regions.dtype == torch.int64 and regions.shape == (2, 40, 56) and torch.equal(image, kept)
    for number in range(2):
        assert regions[number].unique().tolist() == list(range(int(regions[number].max()) + 1))
        assert torch.equal(cut(image[number : number + 1])[0], regions[number])
    assert torch.equal(cut((image * 255).round().to(torch.uint8)), regions)


@pytest.mark.skipif(not find_spec("skimage"), reason="extra [superpixels] is not installed")
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


def test_refused_values_and_a_missing_package(monkeypatch):
    for given in ({"side": 0}, {"compactness": 0}):
        with pytest.raises(ValueError, match="allowed: >= 1 pixel and > 0"):
            slic_segments(drawn(), **given)
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ImportError, match=r'pip install "clipseg_ws\[superpixels\]"'):
        slic_segments(drawn())
