"""Batches that shrink, pictures prepared beforehand, compiled blocks, pickled Segmenters: the answer stays the same."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import torch

from clipseg_ws import Segmenter
from clipseg_ws.embedded.nano.scenes import draw_scene
from clipseg_ws.pictures.batching import Batching, out_of_memory


@pytest.fixture(scope="module")
def segmenter(tiny_backbone, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter(backbone=tiny_backbone, attention_blocks=2, batch_size=4, refine="none")


@pytest.fixture(scope="module")
def pictures():
    """Five pictures of one size, two of another."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 64, 3) if i < 5 else (64, 48, 3), dtype=np.uint8) for i in range(7)]


class SmallDevice:
    """Stands in for a backbone's ``encode`` on a device that holds only ``most`` pictures."""

    def __init__(self, encode, most: int) -> None:
        self.encode, self.most, self.sizes = encode, most, []

    def __call__(self, pixels, **kwargs):
        self.sizes.append(len(pixels))
        if len(pixels) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return self.encode(pixels, **kwargs)


def test_out_of_memory_halves_the_batch_and_goes_on(segmenter, pictures):
    want = segmenter(pictures, classes="cat; dog")
    small = segmenter.variant()
    small.backbone.encode = device = SmallDevice(small.backbone.encode, 1)
    got = small(pictures, classes="cat; dog")
    assert device.sizes == [4, 2, 1, 1, 1, 1, 1, 1, 1]  # halved twice, then never tried again
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(want, got, strict=True))
    small.backbone.encode = SmallDevice(segmenter.backbone.encode, 0)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        small(pictures[0], classes="cat; dog")


def test_batching_leaves_other_errors_alone():
    calls = []

    def fail(batch):
        calls.append(list(batch))
        raise RuntimeError("shapes do not fit")

    batching = Batching(3)
    with pytest.raises(RuntimeError, match="shapes"):
        batching.run(range(5), fail)
    assert calls == [[0, 1, 2]] and batching.size == 3
    assert out_of_memory(MemoryError()) and out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))


def test_batched_equals_single(segmenter, pictures):
    together = segmenter(pictures, classes="cat; dog")
    for picture, result in zip(pictures, together, strict=True):
        alone = segmenter(picture, classes="cat; dog")
        assert np.array_equal(alone.labels, result.labels)
        assert np.abs(alone.confidence - result.confidence).max() < 1e-4


def test_prepared_pictures_are_not_resized_again(segmenter, pictures, monkeypatch):
    want = segmenter(pictures, classes="cat; dog")
    ready = [segmenter.prepare(picture) for picture in pictures]
    assert ready[0].pixels.shape == (3, 48, 64) and ready[0].grid == ((3, 4),) and ready[0].source is None
    other = segmenter.variant(short_side=32)
    assert other(ready[0], classes="cat; dog").labels.shape == (48, 64)  # other sizes: resized anew
    monkeypatch.setattr("clipseg_ws.stages.encoder.to_pixels", None)
    got = segmenter(ready, classes="cat; dog")
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(want, got, strict=True))


def test_a_pickled_segmenter_gives_the_same(segmenter, pictures):
    settings = {"background_rule": "constant", "background_threshold": 0.2}
    for one in (segmenter, segmenter.variant(**settings), segmenter.variant("cam")):
        twin = pickle.loads(pickle.dumps(one))
        assert twin.config == one.config and twin.backbone.dtype == one.backbone.dtype
        assert np.array_equal(twin(pictures[0], classes="a; b").labels, one(pictures[0], classes="a; b").labels)


def test_nano_is_pickled_by_its_name():
    data = pickle.dumps(Segmenter("nano", dtype="float32"))
    assert len(data) < 2000  # no weights
    assert pickle.loads(data).backbone.name == "nano"


@pytest.mark.skipif(not shutil.which("g++") and not shutil.which("clang++"), reason="needs a C++ compiler")
def test_compiled_equals_eager():
    eager = Segmenter("nano", dtype="float32", refine="none")
    scene = draw_scene(5_000_001, 96)
    want, got = eager(scene.image), eager.variant(compile=True)(scene.image)
    assert len(np.unique(want.labels)) > 1
    assert np.array_equal(want.labels, got.labels)
    assert np.abs(want.confidence - got.confidence).max() < 1e-4
