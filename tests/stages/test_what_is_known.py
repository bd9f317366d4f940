"""Marks add knowledge: of what they do not speak everything stays as without them, picture by picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipseg_ws import Segmenter, Support, WeakLabels
from clipseg_ws.embedded.nano.scenes import KINDS, held_out
from clipseg_ws.eval.metrics import ConfusionMatrix
from clipseg_ws.heads.base import make_head
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.file import HeadCard, save_head
from clipseg_ws.stages.question import Known

NAMES = ["cat", "dog", "sofa"]
UNMARKED = np.full((48, 80), 255, np.uint8)
SILENT = [WeakLabels(), WeakLabels(scribbles=UNMARKED)]
STROKE = UNMARKED.copy()
STROKE[40:43, 5:30] = 0


@pytest.fixture(scope="module")
def nano():
    return Segmenter("nano", dtype="float32")


@pytest.fixture(scope="module")
def scenes():
    return list(held_out(4, 224))


def score(results, scenes) -> float:
    matrix = ConfusionMatrix(len(KINDS) + 1)
    for result, scene in zip(results, scenes, strict=True):
        matrix.update(result.labels, scene.labels)
    return matrix.compute()["mIoU"]


def ground_point(scene) -> WeakLabels:
    y, x = np.argwhere(scene.labels == 0)[50]
    return WeakLabels(points=(("background", float(x), float(y)),))


@pytest.mark.parametrize("method", ["default", "clip-es"])
def test_a_true_point_of_the_background_does_no_harm(nano, scenes, method):
    segment, pictures = nano.variant(method), [scene.image for scene in scenes]
    plain = segment(pictures, classes=list(KINDS))
    marked = segment(pictures, classes=list(KINDS), weak=[ground_point(scene) for scene in scenes])
    assert score(marked, scenes) > score(plain, scenes) - 0.02
    for one, other in zip(plain, marked, strict=True):
        assert one.present == other.present and one.scores == pytest.approx(other.scores)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(3).integers(0, 256, (48, 80, 3), dtype=np.uint8)


@pytest.mark.parametrize("silent", SILENT)
@pytest.mark.parametrize(
    ("method", "given"),
    [("default", {}), ("clip-es", {}), ("maskclip", {"window": 0, "area_threshold": 0.3, "background_threshold": 0.3})],
)
def test_marks_that_say_nothing_change_nothing(tiny_backbone, picture, method, given, silent):
    segment = Segmenter(backbone=tiny_backbone, method=method, short_side=64, refine="none", **given)
    plain, marked = segment(picture, classes=NAMES), segment(picture, classes=NAMES, weak=silent)
    assert np.array_equal(plain.labels, marked.labels) and np.array_equal(plain.confidence, marked.confidence)
    assert plain.scores == marked.scores and plain.setting == marked.setting == "zero"
    assert plain.presence() == marked.presence()


def test_each_picture_of_a_batch_as_alone(tiny_backbone, picture):
    segment = Segmenter(backbone=tiny_backbone, attention_blocks=2, refine="none", presence_threshold=0.35)
    weak = [
        WeakLabels(), WeakLabels(tags=("dog",)), WeakLabels(points=(("background", 3, 3),)),
        WeakLabels(boxes=(("cat", 4, 4, 30, 30),)), WeakLabels(scribbles=STROKE), WeakLabels(tags=()),
    ]  # fmt: skip
    together = segment([picture] * len(weak), classes=NAMES, weak=weak)
    plain = segment(picture, classes=NAMES)
    assert [r.setting for r in together] == ["zero", "weak", "zero", "weak", "zero", "weak"]
    for mark, one in zip(weak, together, strict=True):
        alone = segment(picture, classes=NAMES, weak=mark)
        assert (one.labels == alone.labels).mean() > 0.99 and one.present == alone.present
    assert together[0].present == together[2].present == together[4].present == plain.present
    assert not together[2].labels[3, 3] and not together[4].labels[40:43, 5:30].any()


def test_examples_keep_their_presence(nano, scenes):
    label = KINDS[int(np.unique(scenes[0].labels)[1]) - 1]
    shown = Support(scenes[0].image, (scenes[0].labels == KINDS.index(label) + 1).astype(np.uint8), label)
    plain = nano(scenes[1].image, supports=shown, classes=list(KINDS))
    marked = nano(scenes[1].image, supports=shown, classes=list(KINDS), weak=ground_point(scenes[1]))
    assert plain.present == marked.present and plain.scores == pytest.approx(marked.scores)


def test_small_classes_go_with_words_beside_marks_too(tiny_backbone, picture):
    segment = Segmenter(
        backbone=tiny_backbone, method="maskclip", short_side=64, window=0, background_threshold=0.0,
        area_threshold=0.34, refine="none",
    )  # fmt: skip
    plain = segment(picture, classes=NAMES)
    gone = [name for name in NAMES if not plain.mask(name).any()]
    assert gone and len(gone) < len(NAMES)
    marked = segment(picture, classes=NAMES, weak=WeakLabels(points=(("background", 3, 3),)))
    assert not any(marked.mask(name).any() for name in gone)
    named = segment(picture, classes=NAMES, weak=WeakLabels(points=((gone[0], 3, 3),)))
    assert named.mask(gone[0])[3, 3]


def test_a_head_may_be_told_a_class_that_it_never_picks(tiny_backbone, picture, tmp_path):
    card = HeadCard(
        ("cat", "dog"), tiny_backbone.name, tiny_backbone.weights_sha256, FeatureSpec(blocks=(-1,)), "linear",
        tiny_backbone.width,
    )  # fmt: skip
    module = make_head("linear", 1, tiny_backbone.width, 3)
    with torch.no_grad():
        module.classify.bias.copy_(torch.tensor([0.0, 9.0, -9.0]))
    save_head(tmp_path / "head", module, card)
    for given in ({"attention_blocks": 2}, {"affinity": False}):
        segment = Segmenter(backbone=tiny_backbone, head=tmp_path / "head", refine="none", **given)
        assert 2 not in segment(picture).labels
        for mark in (
            WeakLabels(points=(("dog", 40, 20),)), WeakLabels(boxes=(("dog", 30, 10, 50, 30),)),
            WeakLabels(tags=("cat", "dog"), points=(("dog", 40, 20),)),
        ):  # fmt: skip
            assert segment(picture, weak=mark).mask("dog")[10:30, 30:50].any()


def test_kinds_are_not_mixed():
    known = Known(torch.ones(2, 3, dtype=torch.bool), None, (True, False))
    assert known.rows([1], torch.device("cpu")).present is None
    assert known.rows([0], torch.device("cpu")).present.all()
    with pytest.raises(ValueError, match="answer them apart"):
        known.rows([0, 1], torch.device("cpu"))
