"""Large pictures are decided at a working size: the same answer, enlarged; memory bounded; small ones untouched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn import scene
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.stages import large
from clipseg_ws.stages.labels import label, spread_labels
from clipseg_ws.stages.large import enlarged_labels, working_size


@given(st.integers(1, 9000), st.integers(1, 9000), st.integers(0, 10**6))
def test_the_working_size_keeps_the_shape(height: int, width: int, most: int) -> None:
    h, w = working_size((height, width), most)
    if not most or height * width <= most:
        assert (h, w) == (height, width)
    else:
        assert h * w <= most * 1.05 + height + width
        assert abs(h / height - (most / (height * width)) ** 0.5) <= 1 / height + 1e-9


@pytest.mark.parametrize("size", [(37, 53), (64, 21), (9, 12)])
def test_strips_equal_the_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.rand(2, 4, 9, 12, generator=torch.Generator().manual_seed(0))
    classes = torch.tensor([[4, 0, 7], [2, 5, -1]])
    wide = F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
    expected, confidence = label(wide)
    monkeypatch.setattr(large, "STRIP_CELLS", 2 * 4 * size[1] * 5)  # strips of five rows
    labels, got = enlarged_labels(scores, size, classes)
    assert torch.equal(labels.long(), spread_labels(expected, classes))
    torch.testing.assert_close(got, confidence, atol=1e-6, rtol=0)


def test_a_large_picture_gets_the_small_ones_answer() -> None:
    image = Image.fromarray(scene(3).image) if not isinstance(scene(3).image, Image.Image) else scene(3).image
    wide = image.resize((1120, 896), Image.Resampling.BICUBIC)
    kinds = "house; tree; car; boat; fish; sun"
    whole = Segmenter("nano", max_pixels=0)(wide, kinds)
    quick = Segmenter("nano", max_pixels=200_000)(wide, kinds)
    assert quick.labels.shape == whole.labels.shape == (896, 1120)
    assert quick.labels.dtype == whole.labels.dtype
    assert (quick.labels == whole.labels).mean() > 0.97
    assert np.abs(quick.confidence - whole.confidence).mean() < 0.05


def test_the_limit_counts_only_beyond_it() -> None:
    image = scene(4).image
    kinds = "house; tree; car"
    whole, limited = (Segmenter("nano", max_pixels=most)(image, kinds) for most in (0, 224 * 224))
    assert np.array_equal(whole.labels, limited.labels)
    assert np.array_equal(whole.confidence, limited.confidence)


def test_small_classes_are_dropped_at_the_working_size_too() -> None:
    image = scene(3).image
    wide = (Image.fromarray(image) if isinstance(image, np.ndarray) else image).resize((1120, 896))
    kinds = "house; tree; car; boat; fish; sun"
    result = Segmenter("nano", max_pixels=200_000, min_area=0.2)(wide, kinds)
    counts = np.bincount(result.labels.ravel(), minlength=7)[1:]
    assert all(count == 0 or count > 0.18 * result.labels.size for count in counts)
