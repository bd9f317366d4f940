"""Windows and stitching against slow plain oracles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clipseg_ws.pictures.windows import stitch, window_boxes


def plain_boxes(height: int, width: int, crop: int, stride: int) -> list[tuple[int, int, int, int]]:
    """The protocol word by word, with loops."""
    boxes = []
    for i in range(max(height - crop + stride - 1, 0) // stride + 1):
        for j in range(max(width - crop + stride - 1, 0) // stride + 1):
            y1, x1 = min(i * stride + crop, height), min(j * stride + crop, width)
            boxes.append((max(y1 - crop, 0), y1, max(x1 - crop, 0), x1))
    return boxes


geometry = st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40)).filter(
    lambda g: g[3] <= g[2]
)


@settings(deadline=None)
@given(geometry)
def test_windows_cover_everything_and_stay_inside(shape):
    height, width, crop, stride = shape
    boxes = window_boxes((height, width), crop, stride)
    assert boxes == plain_boxes(*shape) and len(set(boxes)) == len(boxes)
    covered = np.zeros((height, width), bool)
    for y0, y1, x0, x1 in boxes:
        assert 0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width
        assert (y1 - y0, x1 - x0) == (min(crop, height), min(crop, width))
        covered[y0:y1, x0:x1] = True
    assert covered.all()


def test_known_windows():
    assert window_boxes((64, 100), 64, 32) == [(0, 64, 0, 64), (0, 64, 32, 96), (0, 64, 36, 100)]
    assert window_boxes((40, 64), 64, 32) == [(0, 40, 0, 64)]
    with pytest.raises(ValueError, match="stride=5, crop=4"):
        window_boxes((10, 10), 4, 5)


@settings(max_examples=25, deadline=None)
@given(st.tuples(st.integers(1, 12), st.integers(1, 15), st.integers(1, 9), st.integers(1, 9)).filter(
    lambda g: g[3] <= g[2]))  # fmt: skip
def test_stitch_against_a_slow_oracle(shape):
    height, width, crop, stride = shape
    boxes = window_boxes((height, width), crop, stride)
    generator = torch.Generator().manual_seed(height * width)
    windows = [torch.randn(2, 3, b[1] - b[0], b[3] - b[2], generator=generator) for b in boxes]
    result = stitch(iter(windows), boxes, (height, width))
    for y in range(height):
        for x in range(width):
            over = [w[:, :, y - b[0], x - b[2]] for w, b in zip(windows, boxes, strict=True)
                    if b[0] <= y < b[1] and b[2] <= x < b[3]]  # fmt: skip
            torch.testing.assert_close(result[:, :, y, x], torch.stack(over).mean(0), atol=1e-5, rtol=0)
    torch.testing.assert_close(stitch(torch.stack(windows), boxes, (height, width)), result)


def test_stitch_dtype_and_errors():
    boxes = window_boxes((4, 6), 4, 2)
    windows = [torch.full((2, 1, 4, 4), 0.1, dtype=torch.bfloat16)] * 2
    assert stitch(windows, boxes, (4, 6)).dtype == torch.bfloat16
    with pytest.raises(ValueError, match=r"shorter|longer"):
        stitch(windows[:1], boxes, (4, 6))
    with pytest.raises(ValueError, match=r"window 0 .*\[B,T,4,4\]"):
        stitch([torch.zeros(2, 1, 3, 4)] * 2, boxes, (4, 6))
    with pytest.raises(ValueError, match="8 of 4 x 6"):
        stitch(windows[:1], boxes[:1], (4, 6))
