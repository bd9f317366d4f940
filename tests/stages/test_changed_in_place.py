"""A picture belongs to the caller: what happens to it after ``prepare`` or an answer changes neither them nor it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_ws import Segmenter, Support

NOISE = np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8)
ASKED = {"classes": "cat; dog", "tags": ["cat", "dog"]}


@pytest.fixture(scope="module")
def segmenter(tiny_backbone, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter(backbone=tiny_backbone, attention_blocks=2, refine="guided", cache_mb=20, short_side=48)


def array():
    held = NOISE.copy()
    return held, lambda: held.__setitem__(slice(None), 255 - held)


def pillow():
    held = Image.fromarray(NOISE.copy())
    return held, lambda: held.paste(Image.fromarray(255 - NOISE))


def tensor():
    held = torch.from_numpy(NOISE.copy()).permute(2, 0, 1)
    return held, lambda: held.copy_(255 - held.clone())


def file():
    data = io.BytesIO()
    Image.fromarray(NOISE).save(data, "png")
    data.seek(0)
    other = io.BytesIO()
    Image.fromarray(255 - NOISE).save(other, "png")

    def change():
        data.seek(0)
        data.truncate()
        data.write(other.getvalue())
        data.seek(0)

    return data, change


KINDS = [array, pillow, tensor, file]


@pytest.mark.parametrize("kind", KINDS)
def test_after_prepare(segmenter, kind):
    held, change = kind()
    question = segmenter.ask("cat; dog")
    want = segmenter(NOISE, **ASKED)
    picture = segmenter.prepare(held)
    change()
    (got,) = segmenter.answer(question, [picture], tags=[ASKED["tags"]])
    assert np.array_equal(got.labels, want.labels) and np.array_equal(got.confidence, want.confidence)
    assert np.array_equal(np.asarray(got.image), NOISE)


@pytest.mark.parametrize("kind", KINDS)
def test_after_an_answer_from_the_token_cache_too(segmenter, kind):
    """The same object with another content is another picture; results keep the content that was answered."""
    held, change = kind()
    first = segmenter(held, **ASKED)
    change()
    second = segmenter(held, **ASKED)
    fresh = segmenter.variant(cache_mb=0)(255 - NOISE, **ASKED)
    assert np.array_equal(np.asarray(first.image), NOISE) and np.array_equal(np.asarray(second.image), 255 - NOISE)
    np.testing.assert_allclose(second.confidence, fresh.confidence, rtol=0, atol=1e-5)
    assert not np.allclose(first.confidence, second.confidence, atol=1e-3)


def test_a_support_and_its_mask(segmenter):
    held, mask = NOISE.copy(), np.zeros((48, 64), np.uint8)
    mask[8:40, 8:40] = 1
    bank = segmenter.bank([Support(held, mask, "cat")])
    before = bank.digest()
    held[:], mask[:] = 0, 0
    assert bank.digest() == before and segmenter(NOISE, supports=bank).shares()["cat"] > 0


def test_what_an_answer_gives_is_the_callers(segmenter):
    """Writing into a result does not reach the next answer."""
    first = segmenter(NOISE, **ASKED)
    want = first.confidence.copy(), first.labels.copy()
    first.confidence[:], first.labels[:] = 0, 1
    second = segmenter(NOISE, **ASKED)
    assert np.array_equal(second.confidence, want[0]) and np.array_equal(second.labels, want[1])
