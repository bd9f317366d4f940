"""The model for FiftyOne's ``apply_model``: by itself, and on a data set where MongoDB can be reached."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import scene
from PIL import Image

from clipseg_ws.adapters.fiftyone import model
from clipseg_ws.segmenter import Segmenter

fo = pytest.importorskip("fiftyone")


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter("nano", dtype="float32")


def test_model_answers_as_the_segmenter_does(segmenter):
    look = model(segmenter, "house; tree; car")
    assert isinstance(look, fo.Model) and look.media_type == "image"
    pictures = [scene(seed).image for seed in (3, 4)]
    want = segmenter(pictures, "house; tree; car")
    made = look.predict_all(pictures)
    assert all(np.array_equal(one.mask, result.labels) for one, result in zip(made, want, strict=True))
    assert np.array_equal(look.predict(pictures[0]).mask, want[0].labels)
    assert look.mask_targets == {1: "house", 2: "tree", 3: "car"}
    parts = model(segmenter, "house; tree; car", "detections").predict(pictures[0])
    assert {one.label for one in parts.detections} == {n for n, s in want[0].shares().items() if s} - {"background"}
    with pytest.raises(ValueError, match="allowed: segmentation, detections"):
        model(segmenter, "house", "boxes")


def test_apply_model(segmenter, tmp_path):
    try:
        dataset = fo.Dataset()
    except Exception as error:  # FiftyOne keeps data sets in MongoDB, which its package does not bring
        pytest.skip(f"FiftyOne has no database here: {str(error)[:80]}")
    try:
        Image.fromarray(scene(3).image).save(tmp_path / "a.png")
        dataset.add_sample(fo.Sample(filepath=str(tmp_path / "a.png")))
        dataset.apply_model(model(segmenter, "house; tree; car"), "found")
        want = segmenter(scene(3).image, "house; tree; car").labels
        assert np.array_equal(dataset.first()["found"].mask, want)
    finally:
        dataset.delete()
