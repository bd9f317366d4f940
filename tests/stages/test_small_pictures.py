"""Pictures of one patch, one row of patches or one colour: every method and step gives finite numbers and no error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import tiny_clip

from clipseg_ws import Segmenter, Support, WeakLabels
from clipseg_ws.activations.outliers import find_outliers
from clipseg_ws.activations.prototypes import vote
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.config import METHODS, STEPS
from clipseg_ws.refine.picture import refine_picture

RNG = np.random.default_rng(0)
SIZES = {"patch": (16, 16), "row": (16, 64), "column": (64, 16), "pixel": (1, 1), "square": (48, 48)}
PICTURES = [np.full((*size, 3), 90, np.uint8) for size in SIZES.values()]
PICTURES += [RNG.integers(0, 256, (*size, 3), dtype=np.uint8) for size in list(SIZES.values())[:4]]
MATCHING = [name for name, entry in STEPS.items() if entry.about["when"] == "matching"]
OTHERS = [name for name, entry in STEPS.items() if "maps" in entry.about["answerers"] and name not in MATCHING]
SETTINGS = [
    *(("default", {name: True}) for name in OTHERS),
    ("default", {"structure": {"kind": "similarity", "blocks": 3}}),
    ("default", {"structure": {"kind": "both", "blocks": 3}}),
    ("default", {"outliers": {"method": "activation"}}),
    ("default", {"layer_fusion": {"kind": "early"}}),
    ("default", {"correlation": {"kind": "intra"}}),
    ("default", {"looks": {"scales": (0.5, 1.0, 1.5), "flip": True, "doubt": 0.5}}),
    ("default", {"affinity.exclude_last": True, "background_rule": "prompts", "instances": True}),
    *((name, {"short_side": None}) for name in METHODS if name not in ("default", "proxyclip", "corrclip", "trident")),
]


@pytest.fixture(scope="module")
def backbone():
    return OpenClipBackbone(tiny_clip(layers=5))


def check(results) -> None:
    for result in results if isinstance(results, list) else [results]:
        assert np.isfinite(result.confidence).all() and np.isfinite(result.extras["maps"]).all()
        assert all(np.isfinite(score) for score in result.scores.values())
        assert result.confidence.min() >= 0 and result.confidence.max() <= 1 + 1e-5


@pytest.mark.parametrize(("method", "given"), SETTINGS, ids=[f"{m} {g}" for m, g in SETTINGS])
def test_names_and_tags(backbone, method, given):
    segment = Segmenter(backbone=backbone, method=method, keep_maps=True, **given)
    check(segment(PICTURES, classes=["cat", "dog"]))
    marks = WeakLabels(("cat",), points=(("background", 0, 0),))
    check(segment(PICTURES, classes=["cat", "dog"], weak=[marks] * len(PICTURES)))


@pytest.mark.parametrize("name", ["plain", *MATCHING])
def test_examples(backbone, name):
    segment = Segmenter(backbone=backbone, keep_maps=True, **({} if name == "plain" else {name: True}))
    for picture in PICTURES[:6]:
        half, whole = np.zeros(picture.shape[:2], np.uint8), np.ones(picture.shape[:2], np.uint8)
        half[: max(1, len(half) // 2)] = 1
        supports = [Support(picture, half, "cat"), Support(PICTURES[4], np.eye(48, dtype=np.uint8), "cat"),
                    Support(picture, whole, "dog")]  # fmt: skip
        check(segment(picture, supports=supports))
        check(segment(picture, classes=["cat", "dog", "cow"], supports=supports))


@pytest.mark.parametrize("name", MATCHING)
def test_masks_are_predicted_whatever_compares_the_examples(name, backbone):
    """The weak setting that makes the masks reads no setting of the comparison."""
    picture = RNG.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    segment = Segmenter(backbone=backbone, keep_maps=True, fewshot={"prior": 0.0}, **{name: True})
    check(segment(picture, supports=[Support(picture, None, "cat")]))


@pytest.mark.parametrize("refiner", ["guided", "pamr", "par", "crf", "superpixels"])
def test_refiners(refiner):
    needs = {"crf": "pydensecrf", "superpixels": "skimage"}
    if refiner in needs:
        pytest.importorskip(needs[refiner])
    torch.manual_seed(0)
    for size in [(1, 1), (1, 5), (5, 1), (6, 6)]:
        for value in (0, 90, 255):
            image = torch.full((1, 3, *size), value, dtype=torch.uint8)
            assert torch.isfinite(refine_picture(refiner, torch.rand(1, 3, *size), image)).all()


@pytest.mark.parametrize("method", ["lof", "activation"])
def test_one_patch_is_no_outlier(method):
    assert not find_outliers(torch.randn(2, 1, 4), 0.5, method=method).any()
    assert find_outliers(torch.ones(2, 10, 4), 0.3, method=method).sum(1).tolist() == [3, 3]


def test_a_vote_without_votes():
    votes, share = vote(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(3, 2, 2, 2))
    assert not votes.any() and not share.any()
