"""A thousand names at once: bounded tensors, and the same answer as without the shortcut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from clipseg_ws import Segmenter
from clipseg_ws.stages import many_words
from clipseg_ws.stages.reading import readable


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return out


def picture(width: int, height: int) -> Image.Image:
    coarse = np.random.default_rng(3).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def segmenter(tiny_backbone, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter(backbone=tiny_backbone, attention_blocks=2, templates="plain")


NAMES = [f"thing {i}" for i in range(1000)]


@pytest.mark.parametrize("method", ["default", "maskclip", "naclip"])
def test_a_thousand_names_stay_within_the_limit(segmenter, method, monkeypatch):
    limit = 2**21  # words times pixels; all 1025 words at 150 x 100 pixels would be 15 million
    monkeypatch.setattr(many_words, "WORD_CELLS", limit)
    settings = {"attention_blocks": 2, "templates": "plain", "short_side": 96, "window": 0}
    variant = segmenter.variant(method, **readable(method, settings))
    variant(picture(150, 100), classes=NAMES)  # the texts are encoded and cached outside the measurement
    with Largest() as largest:
        result = variant(picture(150, 100), classes=NAMES)
    assert result.labels.shape == (100, 150) and len(result.scores) == 1000
    assert 0 < largest.numel <= limit


@pytest.mark.parametrize("method", ["maskclip", "sclip"])
def test_the_shortlist_gives_the_same_answer(segmenter, method, monkeypatch):
    """Exact at the patches; between them a word that wins at no patch could have won."""
    names = NAMES[:60]
    variant = segmenter.variant(
        method, templates="plain", short_side=None, window=48, stride=32, background_threshold=0.0, logit_scale=20.0
    )
    for tags in (None, names[:7]):
        full = variant(picture(96, 64), classes=names, tags=tags)
        monkeypatch.setattr(many_words, "WORD_CELLS", 60 * 96 * 64)
        short = variant(picture(96, 64), classes=names, tags=tags)
        monkeypatch.undo()
        assert (full.labels != short.labels).mean() < 0.02
        won = [n for n in names if short.mask(n).any()]
        assert won and max(abs(full.scores[n] - short.scores[n]) for n in won) < 0.01
        if tags:
            assert set(won) <= set(tags)
        assert sum(full.scores[n] > 0 for n in names) == sum(short.scores[n] > 0 for n in names)


def test_a_tight_limit_keeps_the_words_that_win_most(segmenter, monkeypatch):
    variant = segmenter.variant("maskclip", templates="plain", short_side=None, window=0, background_threshold=0.0)
    full = variant(picture(96, 64), classes=NAMES[:60])
    monkeypatch.setattr(many_words, "WORD_CELLS", 3 * 96 * 64)  # two words and the rest
    short = variant(picture(96, 64), classes=NAMES[:60])
    best = max(NAMES[:60], key=lambda n: full.mask(n).sum())
    assert short.mask(best).sum() >= full.mask(best).sum() > 0
    assert len(set(np.unique(short.labels)) - {0}) <= 2
