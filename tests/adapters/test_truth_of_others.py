"""Results in the objects of supervision and FiftyOne and back; against the real libraries where they are installed."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from clipseg_ws import Segmentation, WeakLabels
from clipseg_ws.adapters import fiftyone as from_fiftyone
from clipseg_ws.adapters import supervision as from_supervision
from clipseg_ws.adapters.truth import Given, painted

NAMES = ("cat", "dog", "sofa")
LABELS = np.zeros((20, 30), np.uint8)
LABELS[2:8, 3:9], LABELS[4:6, 5:7] = 1, 0  # a ring, and a second cat
LABELS[10:15, 20:28] = 1
LABELS[17:19, 0:4] = 3
INSTANCES = np.zeros((20, 30), np.int32)
INSTANCES[2:8, 3:9], INSTANCES[10:15, 20:28], INSTANCES[17:19, 0:4] = 1, 2, 3
INSTANCES[LABELS == 0] = 0


def answer(**more) -> Segmentation:
    confidence = np.where(LABELS == 3, 0.25, 0.75).astype(np.float32)
    return Segmentation(LABELS, NAMES, {"cat": 0.5}, confidence, **more)


def empty() -> Segmentation:
    return Segmentation(np.zeros((20, 30), np.uint8), NAMES, {}, np.ones((20, 30), np.float32))


def boxes_of(labels: np.ndarray) -> SimpleNamespace:
    """What has the attributes of ``supervision.Detections``, for where that is not installed."""
    masks = np.stack([labels == 1, labels == 3])
    xyxy = np.array([[3, 2, 28, 15], [0, 17, 4, 19]], np.float32)
    return type("Found", (SimpleNamespace,), {"__len__": lambda self: len(self.xyxy)})(
        xyxy=xyxy, mask=masks, class_id=np.array([0, 2]), data={}
    )


@pytest.mark.parametrize("name, call", [("supervision", "to_supervision"), ("fiftyone", "to_fiftyone")])
def test_says_what_is_missing(monkeypatch, name, call):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"pip install 'clipseg_ws\[{name}\]'"):
        getattr(answer(), call)()


def test_fiftyone_kind_is_checked_before_anything_is_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(ValueError, match="'boxes'; allowed: segmentation, detections"):
        answer().to_fiftyone("boxes")


# ---- supervision ---------------------------------------------------------------------------------------------------


def test_label_map_of_detections():
    assert np.array_equal(from_supervision.to_labels(boxes_of(LABELS), NAMES), LABELS)
    named = boxes_of(LABELS)
    named.data, named.class_id = {"class_name": np.array(["Sofa", "DOG"])}, None
    swapped = np.choose(LABELS, [0, 3, 0, 2])
    assert np.array_equal(from_supervision.to_labels(named, NAMES), swapped)


def test_the_smaller_thing_is_in_front():
    whole = np.ones((4, 6), bool)
    part = np.zeros((4, 6), bool)
    part[1:3, 1:3] = True
    for order in ((0, 1), (1, 0)):
        things = [Given("cat", mask=whole), Given("dog", mask=part)]
        made = painted([things[i] for i in order], ["cat", "dog"], (4, 6))
        assert np.array_equal(made, np.where(part, 2, 1))


def test_weak_labels_of_detections():
    weak = from_supervision.to_weak_labels(boxes_of(LABELS), NAMES)
    assert weak.boxes == (("cat", 3, 2, 28, 15), ("sofa", 0, 17, 4, 19)) and weak.tags is None


def test_supports_of_detections():
    found = boxes_of(LABELS)
    found.class_id = np.array([0, 0])
    (support,) = from_supervision.to_supports("a.jpg", found, NAMES)
    assert support.label == "cat" and support.image == "a.jpg"
    assert np.array_equal(support.mask, (LABELS > 0).astype(np.uint8))


@pytest.mark.parametrize("change, names, said", [
    ({"mask": None}, NAMES, "no masks, so no size"),
    ({"class_id": np.array([0, 7])}, NAMES, r"class_id 7, and there are 3 names \(0 to 2\)"),
    ({"class_id": None}, NAMES, "neither class_name nor class_id"),
    ({"data": {"class_name": ["cat", "cow"]}}, NAMES, "'cow' is none of the names cat, dog, sofa"),
    ({}, "cat", "one string; a list of names"),
    ({}, ("cat", "dog", "Cat"), "stands twice"),
])  # fmt: skip
def test_detections_that_cannot_be_used(change, names, said):
    found = boxes_of(LABELS)
    vars(found).update(change)
    with pytest.raises(ValueError, match=said):
        from_supervision.to_labels(found, names)


@pytest.mark.parametrize("told", [False, True])
def test_supervision_round_trip(told):
    sv = pytest.importorskip("supervision")
    result = answer(extras={"instances": INSTANCES} if told else {})
    found = result.to_supervision()
    assert isinstance(found, sv.Detections) and len(found) == (3 if told else 2)
    assert found.mask.dtype == bool and found.mask.shape[1:] == LABELS.shape
    assert found.data["class_name"].tolist() == (["cat", "cat", "sofa"] if told else ["cat", "sofa"])
    assert found.confidence.tolist() == pytest.approx([0.75] * (2 if told else 1) + [0.25])
    assert np.array_equal(from_supervision.to_labels(found, NAMES), LABELS)
    assert from_supervision.to_weak_labels(found).boxes == tuple(box[:5] for box in result.boxes())
    assert len(found[found.confidence > 0.5]) == (2 if told else 1)  # what people do with them
    drawn = sv.MaskAnnotator().annotate(np.zeros((20, 30, 3), np.uint8), found)
    assert np.array_equal(drawn.any(2), LABELS > 0)


def test_supervision_of_nothing():
    pytest.importorskip("supervision")
    found = empty().to_supervision()
    assert len(found) == 0 and found.mask.shape == (0, 20, 30)
    assert not from_supervision.to_labels(found, NAMES, (20, 30)).any()


# ---- FiftyOne ------------------------------------------------------------------------------------------------------


def plain_segmentation(mask) -> SimpleNamespace:
    return SimpleNamespace(get_mask=lambda: mask)


def test_segmentation_by_mask_targets():
    raw = np.choose(LABELS, [0, 70, 0, 9]).astype(np.uint8)
    targets = {70: "Cat", 9: "sofa", 4: "tree"}
    made = from_fiftyone.to_labels(plain_segmentation(raw), NAMES, (20, 30), targets)
    assert np.array_equal(made, LABELS)
    raw[0, 0], raw[19, 29] = 255, 4
    with pytest.raises(ValueError, match=r"the mask holds 4 \('tree'\), which is none of the names"):
        from_fiftyone.to_labels(plain_segmentation(raw), NAMES, (20, 30), targets)
    raw[19, 29] = 0
    assert from_fiftyone.to_labels(plain_segmentation(raw), NAMES, (20, 30), targets)[0, 0] == 255


@pytest.mark.parametrize("mask, said", [
    (None, "no mask"),
    (np.zeros((20, 30, 3), np.uint8), "no colours"),
    (np.zeros((30, 20), np.uint8), r"\[30, 20\], the picture \[20, 30\]"),
])  # fmt: skip
def test_segmentations_that_cannot_be_used(mask, said):
    with pytest.raises(ValueError, match=said):
        from_fiftyone.to_labels(plain_segmentation(mask), NAMES, (20, 30))


@pytest.mark.parametrize("told", [False, True])
def test_fiftyone_round_trip(told):
    fo = pytest.importorskip("fiftyone")
    result = answer(extras={"instances": INSTANCES} if told else {})
    whole = result.to_fiftyone()
    assert isinstance(whole, fo.Segmentation)
    assert np.array_equal(from_fiftyone.to_labels(whole, NAMES, (20, 30)), LABELS)
    parts = result.to_fiftyone("detections")
    assert isinstance(parts, fo.Detections) and len(parts.detections) == (3 if told else 2)
    assert np.array_equal(from_fiftyone.to_labels(parts, NAMES, (20, 30)), LABELS)
    boxes = from_fiftyone.to_weak_labels(parts, (20, 30)).boxes
    assert [box[0] for box in boxes] == [box.name for box in result.boxes()]
    assert np.allclose([box[1:] for box in boxes], [box[1:5] for box in result.boxes()])
    supports = from_fiftyone.to_supports("a.jpg", parts, (20, 30))
    assert [support.label for support in supports] == ["cat", "sofa"]
    assert np.array_equal(supports[0].mask, (LABELS == 1).astype(np.uint8))


def test_weak_labels_of_fiftyone():
    fo = pytest.importorskip("fiftyone")
    clicks = fo.Keypoints(keypoints=[fo.Keypoint(label="cat", points=[(0.5, 0.25), (float("nan"), 0)])])
    assert from_fiftyone.to_weak_labels(clicks, (20, 30)).points == (("cat", 15.0, 5.0),)
    tags = fo.Classifications(classifications=[fo.Classification(label="cat"), fo.Classification(label="sofa")])
    assert from_fiftyone.to_weak_labels(tags, (20, 30)).tags == ("cat", "sofa")
    assert isinstance(from_fiftyone.to_weak_labels(fo.Classification(label="cat"), (20, 30)), WeakLabels)
    outline = fo.Polyline(label="cat", points=[[(0.1, 0.1), (0.3, 0.1), (0.3, 0.4), (0.1, 0.4)]], filled=True)
    labels = from_fiftyone.to_labels(outline, NAMES, (20, 30))
    want = np.zeros((20, 30), np.uint8)
    want[2:8, 3:9] = 1
    assert np.array_equal(labels, want)
    with pytest.raises(ValueError, match="'cat' has no mask"):
        from_fiftyone.to_labels(fo.Detections(detections=[fo.Detection(label="cat", bounding_box=[0, 0, 1, 1])]),
                                NAMES, (20, 30))  # fmt: skip
    with pytest.raises(ValueError, match="Heatmap is not read here"):
        from_fiftyone.to_weak_labels(fo.Heatmap(map=np.zeros((20, 30))), (20, 30))
