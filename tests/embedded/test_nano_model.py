"""The shipped weights: size, format, and what they can do on held-out scenes."""

from __future__ import annotations

import json

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from clipseg_ws.embedded.nano import CONFIG, WEIGHTS
from clipseg_ws.embedded.nano.evaluate import EvalConfig, evaluate, load, miou
from clipseg_ws.embedded.nano.scenes import BACKGROUNDS, KINDS, SYNONYMS, held_out


@pytest.fixture(scope="module")
def backbone():  # type: ignore[no-untyped-def]
    return load()


def test_weights_are_small_and_half_precision() -> None:
    assert WEIGHTS.stat().st_size <= 12_000_000
    weights = load_file(WEIGHTS)
    assert {t.dtype for t in weights.values()} == {torch.float16}
    assert all(torch.isfinite(t).all() for t in weights.values())
    assert weights["logit_scale"].exp() <= 100.5


def test_weights_load_strictly_into_open_clip() -> None:
    settings = json.loads(CONFIG.read_text())
    model = open_clip.CLIP(**settings["model_cfg"])
    model.load_state_dict({n: t.float() for n, t in load_file(WEIGHTS).items()}, strict=True)
    assert set(settings["preprocess_cfg"]) == {"mean", "std"}
    assert settings["clipseg_ws"]["known_classes"] == list(KINDS)
    assert settings["clipseg_ws"]["recommended"]["background"] == list(BACKGROUNDS)


def test_miou_ignores_classes_that_do_not_occur() -> None:
    confusion = torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]]).numpy()
    assert miou(confusion) == pytest.approx((6 / 9 + 3 / 6) / 2)


def test_synonyms_stand_near_their_names_and_other_words_do_not(backbone) -> None:  # type: ignore[no-untyped-def]
    template = "a photo of a {}."
    names = backbone.embed_text([template.format(kind) for kind in KINDS])
    for i, kind in enumerate(KINDS):
        words = backbone.embed_text([template.format(word) for word in SYNONYMS[kind]])
        assert ((words @ names.T).argmax(1) == i).all(), kind
        assert (words @ names[i] > 0.8).all(), kind
    others = backbone.embed_text([template.format(word) for word in ("cat", "sofa", "zeppelin", "parliament")])
    assert (others @ names.T).max() < 0.5


def test_quality_on_held_out_scenes(backbone) -> None:  # type: ignore[no-untyped-def]
    config = EvalConfig(batch=8)
    scores = evaluate(backbone, held_out(16), config)
    assert scores["weak cam"] > 0.65  # measured 0.757
    assert scores["weak affinity"] > 0.65  # 0.777
    assert scores["zero affinity"] > 0.6  # 0.755
    assert scores["zero dense"] > 0.6  # 0.742
    small = evaluate(backbone, held_out(8, (160, 208)), config)  # another size and shape than it was trained on
    assert small["weak affinity"] > 0.5  # 0.692
