"""The call: what it takes, lists and streams, and the Segmenter's own text."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_ws import Segmentation, Segmenter, WeakLabels
from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene

PIXELS = [draw_scene(5_000_000 + i, 64).image for i in range(5)]


@pytest.fixture(scope="module")
def segment():
    return Segmenter("nano", dtype="float32", batch_size=2, short_side=64, cache_mb=50)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def test_every_form_of_a_picture_gives_the_same_answer(segment, tmp_path):
    (tmp_path / "a.png").write_bytes(png(PIXELS[0]))
    asked = segment(tmp_path / "a.png", "house; tree; car")
    assert asked.source == str(tmp_path / "a.png")
    forms = [
        str(tmp_path / "a.png"), Image.fromarray(PIXELS[0]), PIXELS[0], png(PIXELS[0]), io.BytesIO(png(PIXELS[0])),
        torch.from_numpy(PIXELS[0]).permute(2, 0, 1), open(tmp_path / "a.png", "rb"),  # noqa: SIM115
    ]  # fmt: skip
    for form in forms:
        result = segment(form, "house; tree; car")
        assert isinstance(result, Segmentation) and np.array_equal(result.labels, asked.labels), type(form)
        assert result.source == (form if isinstance(form, str) else None)  # nothing else comes from a place


def test_a_stream_is_read_one_batch_at_a_time(segment):
    read = []

    def pictures():
        for number, pixels in enumerate(PIXELS):
            read.append(number)
            yield pixels

    answers = segment(pictures(), "house; tree; car")
    assert read == []
    first = next(answers)
    assert read == [0, 1]  # batch_size 2
    rest = list(answers)
    assert read == [0, 1, 2, 3, 4] and len(rest) == 4
    listed = segment(list(PIXELS), "house; tree; car")
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip([first, *rest], listed, strict=True))


def test_what_is_asked_of_a_stream_is_checked_at_once(segment):
    with pytest.raises(ValueError, match="no class"):
        segment(iter(PIXELS), "")


def test_tags_and_marks_of_a_stream(segment):
    same = list(segment.stream(iter(PIXELS), tags=["house", "tree"]))
    assert len(same) == 5
    assert all(result.setting == "weak" and set(result.present) == {"house", "tree"} for result in same)
    each = [["house"], ["tree"], ["car"], ["house"], ["sun"]]
    names = [result.present for result in segment.stream(map(np.asarray, PIXELS), list(KINDS), tags=each)]
    assert names == [tuple(tags) for tags in each]
    short = segment.stream(iter(PIXELS), list(KINDS), tags=each[:3])
    assert len([next(short), next(short)]) == 2
    with pytest.raises(ValueError, match="3 tag lists or weak labels, but a picture 4 has come"):
        next(short)
    marks = [WeakLabels(boxes=(("house", 0, 0, 20, 20),))] * 5
    boxed = list(segment.stream(iter(PIXELS), "house; tree", weak=marks))
    assert all(not result.mask("house")[20:, 20:].any() for result in boxed)


def test_the_segmenters_own_text(segment):
    settings = "method='default', batch_size=2, short_side=64, cache_mb=50"
    assert repr(segment) == f"Segmenter('nano', {settings}) on cpu float32"
    assert "method='cam'" in repr(segment.variant("cam")) and len(repr(segment.variant("cam", alpha=2.0))) < 120
