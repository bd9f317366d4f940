"""A head with scikit-learn's habits: learns, scores, is cloned and searched, and becomes a file of the product."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import scene

from clipseg_ws.adapters.sklearn import SegmentationEstimator
from clipseg_ws.segmenter import Segmenter


def pairs(seeds) -> tuple[list, list]:
    """Pictures, and masks of all things (1) against the ground (0)."""
    scenes = [scene(seed) for seed in seeds]
    return [s.image for s in scenes], [(s.labels > 0).astype(np.uint8) for s in scenes]


@pytest.fixture(scope="module")
def fitted() -> SegmentationEstimator:
    return SegmentationEstimator("nano", kind="linear", classes=["thing"], steps=60, lr=1e-2).fit(*pairs(range(8)))


def test_learns(fitted):
    pictures, masks = pairs(range(20, 24))
    made = fitted.predict(pictures)
    assert [m.shape for m in made] == [m.shape for m in masks] and made[0].dtype == np.uint8
    found, truth = np.stack(made), np.stack(masks)
    ious = [((found == i) & (truth == i)).sum() / ((found == i) | (truth == i)).sum() for i in (0, 1)]
    assert fitted.score(pictures, masks) == pytest.approx(np.mean(ious)) and np.mean(ious) > 0.7
    assert fitted.classes_ == ("thing",)


def test_its_file_answers_in_a_segmenter(fitted, tmp_path):
    fitted.save(tmp_path / "head.safetensors")
    pictures, masks = pairs(range(20, 24))
    results = Segmenter("nano", head=tmp_path / "head.safetensors")(pictures)
    assert results[0].names == ("thing",)
    found, truth = np.stack([result.mask("thing") for result in results]), np.stack(masks) == 1
    assert (found & truth).sum() / (found | truth).sum() > 0.5


def test_params_go_in_and_out_as_they_are():
    blocks = [-1]
    head = SegmentationEstimator("nano", blocks=blocks)
    assert head.get_params()["blocks"] is blocks
    assert head.set_params(steps=5) is head and head.get_params()["steps"] == 5
    with pytest.raises(ValueError, match="'alpha' is unknown; allowed: model, kind"):
        head.set_params(alpha=1)


@pytest.mark.parametrize("images, masks, said", [
    (2, [np.zeros((224, 224), np.uint8)], "2 pictures and 1 masks"),
    (1, [np.zeros((9, 9), np.uint8)], r"mask 0 is \[9, 9\], its picture \[224, 224\]"),
    (1, [np.zeros((224, 224), np.uint8)], "nothing to learn"),
])  # fmt: skip
def test_what_cannot_be_learned_from(images, masks, said):
    with pytest.raises(ValueError, match=said):
        SegmentationEstimator("nano", steps=2).fit([scene(i).image for i in range(images)], masks)


def test_not_fitted_and_unknown_labels(fitted):
    with pytest.raises(ValueError, match="call fit"):
        SegmentationEstimator("nano").predict([])
    pictures, masks = pairs([3])
    with pytest.raises(ValueError, match=r"labels \[9\] in the masks; this head knows 0 to 1"):
        fitted.score(pictures, [np.where(masks[0] > 0, 9, 0)])


def test_cloned_and_searched():
    sklearn = pytest.importorskip("sklearn")
    from sklearn.model_selection import GridSearchCV

    head = SegmentationEstimator("nano", kind="linear", blocks=(-1,), steps=3, classes=["thing"])
    twin = sklearn.base.clone(head)
    assert twin is not head and twin.get_params() == head.get_params()
    pictures, masks = pairs(range(4))
    search = GridSearchCV(head, {"steps": [1, 30], "lr": [1e-2]}, cv=2).fit(pictures, masks)
    assert search.best_params_ == {"steps": 30, "lr": 1e-2} and 0 <= search.best_score_ <= 1
