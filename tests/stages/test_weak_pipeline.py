"""Boxes, points and scribbles through the Segmenter: the answer obeys them under every refiner and decision."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.structures import WeakLabels

NAMES = ["cat", "dog", "sofa"]


@pytest.fixture(scope="module")
def segmenter(tiny_backbone, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter(backbone=tiny_backbone, attention_blocks=2, batch_size=3)


@pytest.fixture(scope="module")
def picture():
    return np.random.default_rng(3).integers(0, 256, (48, 80, 3), dtype=np.uint8)


def drawn() -> np.ndarray:
    strokes = np.full((48, 80), 255, np.uint8)
    strokes[40:43, 5:30], strokes[2:5, 60:75] = 0, 3
    return strokes


MIXED = WeakLabels(
    tags=("cat", "dog", "sofa"),
    boxes=(("cat", 4, 4, 30, 30), ("cat", 50, 20, 51, 21)),
    points=(("dog", 40, 40), ("background", 10, 10)),
    scribbles=drawn(),
)


def check_mixed(labels: np.ndarray) -> None:
    inside = np.zeros(labels.shape, bool)
    inside[4:30, 4:30] = inside[20, 50] = True
    assert not (labels == 1)[~inside].any() and (labels[4:30, 4:30] == 1).any() and labels[20, 50] == 1
    assert labels[40, 40] == 2 and labels[10, 10] == 0
    assert (labels[40:43, 5:30] == 0).all() and (labels[2:5, 60:75] == 3).all()


@pytest.mark.parametrize("refine", ["none", "guided", "pamr", "par"])
@pytest.mark.parametrize("method", ["default", "maskclip"])
def test_the_answer_obeys(segmenter, picture, method, refine):
    given = {"attention_blocks": 2} if method == "default" else {"short_side": None, "window": 0}
    result = segmenter.variant(method, refine=refine, **given)(picture, classes=NAMES, weak=MIXED)
    check_mixed(result.labels)
    assert result.setting == "weak"


def test_a_batch_of_kinds(segmenter, picture):
    weak = [WeakLabels(tags=("dog",)), MIXED, WeakLabels(boxes=(("sofa", 0, 0, 9, 9),)), WeakLabels(tags=())]
    results = segmenter([picture] * 4, classes=NAMES, weak=weak)
    assert set(np.unique(results[0].labels)) <= {0, 2}
    check_mixed(results[1].labels)
    assert set(np.unique(results[2].labels)) == {0, 3} and not results[2].labels[9:].any()
    assert not results[3].labels.any()
    alone = segmenter(picture, classes=NAMES, weak=weak[2])
    assert (alone.labels != results[2].labels).mean() < 0.01


def test_tags_in_weak_are_the_same_as_tags(segmenter, picture):
    one = segmenter(picture, classes=NAMES, tags=["cat", "sofa"])
    other = segmenter(picture, classes=NAMES, weak=WeakLabels(tags=("cat", "sofa")))
    assert np.array_equal(one.labels, other.labels) and one.scores == other.scores


def test_classes_may_come_from_the_marks(segmenter, picture):
    result = segmenter(picture, weak=WeakLabels(points=(("duck", 3, 3), ("background", 70, 40))))
    assert result.names == ("duck",) and result.labels[3, 3] == 1 and result.labels[40, 70] == 0


def test_wrong_calls(segmenter, picture):
    with pytest.raises(ValueError, match="both given"):
        segmenter(picture, classes=NAMES, tags=["cat"], weak=MIXED)
    with pytest.raises(ValueError, match=r"2 weak labels .* for 1 pictures"):
        segmenter(picture, classes=NAMES, weak=[MIXED, MIXED])
    with pytest.raises(ValueError, match=r"\(str\)"):
        segmenter([picture], classes=NAMES, weak=["cat"])
    with pytest.raises(ValueError, match="scribbles are"):
        segmenter(Image.new("RGB", (40, 40)), classes=NAMES, weak=WeakLabels(scribbles=drawn()))
