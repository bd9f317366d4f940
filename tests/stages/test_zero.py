"""The zero setting beyond one preset: a second vision model, options of the dense family, many names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import small_dino
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.config import STEPS, resolve
from clipseg_ws.stages.map_steps import competition
from clipseg_ws.stages.maps import own_maps
from clipseg_ws.stages.reading import readable
from clipseg_ws.structures import Seen


@pytest.fixture(scope="module")
def dino():
    return small_dino()


def test_features_are_loaded_by_name_and_shared_by_variants(tiny_backbone, dino, tmp_path):
    dino.model.save_pretrained(tmp_path)
    segmenter = Segmenter(backbone=tiny_backbone, features=f"local-dir:{tmp_path}", dtype="float32")
    assert segmenter.features.name == f"local-dir:{tmp_path}"
    assert segmenter.features.weights_sha256 == dino.weights_sha256
    assert segmenter.variant("maskclip").features is segmenter.features
    assert Segmenter(backbone=tiny_backbone, features=dino).features is dino
    assert Segmenter(backbone=tiny_backbone).features is None


CLASSES = "cat; person, people, human; sofa"


def picture(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def segmenter(tiny_backbone, dino, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter(backbone=tiny_backbone, features=dino, attention_blocks=2, templates="plain")


def test_presence_is_reported_for_every_name(segmenter, tmp_path):
    first = segmenter(picture(0), classes=CLASSES)
    middle = sorted(first.scores.values())[1]
    result = segmenter.variant(presence_threshold=middle)(picture(0), classes=CLASSES)
    report = result.presence()
    assert [report[n]["score"] >= middle for n in result.names] == [report[n]["present"] for n in result.names]
    assert {n for n in result.names if report[n]["present"]} == set(result.present) != set(result.names)
    assert any("is below the threshold" in entry["why"] for entry in report.values())
    result.save(tmp_path, formats=("json",), stem="x")
    assert json.loads((tmp_path / "x.json").read_text())["presence"] == report


def test_presence_says_who_decided(segmenter):
    told = segmenter(picture(0), classes=CLASSES, tags=["sofa"]).presence()
    assert told["sofa"] == told["sofa"] | {"present": True, "why": "given"} and not told["cat"]["present"]
    words = segmenter.variant("maskclip", templates="plain")(picture(0), classes=CLASSES)
    assert words.present is None
    assert {n for n, e in words.presence().items() if e["present"]} == {n for n in words.names if words.mask(n).any()}


@pytest.mark.parametrize("method", ["default", "maskclip", "sclip"])
@pytest.mark.parametrize(
    "options",
    [
        {"outliers": 0.2},
        {"outliers": {"share": 0.2, "method": "activation"}},
        {"correlation": "cross"},
        {"correlation": {"kind": "intra", "weight": 1.0}},
        {"layer_fusion": "two-pass"},
        {"layer_fusion": "two-pass", "correlation": "cross", "outliers": 0.1},
        {"layer_fusion": "early", "attention_blocks": 2},
        {"dense_mode": "proxy"},
    ],
    ids=str,
)
def test_dense_options_change_the_maps_and_not_with_the_batch(segmenter, method, options):
    given = {"attention_blocks": 2, "templates": "plain", "refine": "none", "short_side": None, "keep_maps": True}
    given |= {"window": 0, "presence": False}
    plain = segmenter.variant(method, **readable(method, given))
    variant = segmenter.variant(method, **readable(method, given | options))
    assert all(variant.config.step(name) for name in options if name in STEPS)
    pictures = [picture(1), picture(2)]
    together = variant(pictures, classes=CLASSES)
    alone = variant(pictures[1], classes=CLASSES)
    assert np.abs(together[1].extras["maps"] - alone.extras["maps"]).max() < 1e-4
    assert np.abs(plain(pictures[1], classes=CLASSES).extras["maps"] - alone.extras["maps"]).max() > 1e-4


def test_proxy_without_a_second_model_says_what_to_give(tiny_backbone):
    with pytest.raises(ValueError, match="features='hf:facebook/dinov2-base'"):
        Segmenter("nano", backbone=tiny_backbone, method="proxyclip", templates="plain")(picture(0), classes="cat")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"outliers": 1.0}, "outliers.share=1.0"),
        ({"dense_mode": "proxy", "correlation": "cross"}, "its own attention"),
        ({"layer_fusion": "early", "attention_blocks": 0}, "set attention_blocks"),
        ({"layer_fusion": "early", "correlation": "intra"}, "its own attention"),
        ({"correlation": "middle"}, "cross, intra"),
        ({"competition": 1.5}, r"\(0, 1\]"),
    ],
)
def test_options_that_do_not_go_together(given, message):
    with pytest.raises(ValueError, match=message):
        resolve("default", given)


def test_competition_gives_a_patch_back_to_the_class_it_speaks_for():
    maps = torch.tensor([[[[0.9, 0.5]], [[0.8, 0.0]], [[0.3, 0.3]]]])  # [1, 3, 1, 2]; the third is padding
    dense = torch.tensor([[[[0.1, 0.9]], [[0.9, 0.1]], [[0.0, 0.0]]]])  # [1, 3, 1, 2] words
    own = own_maps(dense, torch.tensor([[0, 1, -1]]))
    seen = Seen(None, torch.tensor([[0, 1, -1]]), dense=own)
    got = competition(maps, seen, weight=0.25)
    assert maps[0, :, 0, 0].argmax() == 0 and got[0, :, 0, 0].argmax() == 1
    torch.testing.assert_close(got[0, 0, 0, 1], torch.tensor(0.5**0.75 * 0.9**0.25))
    assert (got[0, 2] == 0).all()
    assert competition(maps, Seen(None, seen.classes), weight=0.25) is maps  # examples alone have no dense maps
