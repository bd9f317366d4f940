"""The detection function for CVAT, run by cvat-sdk's own driver, with a server that only takes notes."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from drawn import scene
from PIL import Image

from clipseg_ws.adapters.cvat import create
from clipseg_ws.segmenter import Segmenter

pytest.importorskip("cvat_sdk", reason="cvat-sdk is not installed (extra cvat)")
NAMES = "house; tree; car"


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter("nano", dtype="float32")


@pytest.fixture(scope="module")
def want(segmenter):
    return segmenter(scene(3).image, NAMES)


def run(monkeypatch, function, labels=("background", "car", "tree", "house"), **options):
    """What ``annotate_task`` uploads for one picture of a task with these labels."""
    driver = pytest.importorskip("cvat_sdk.auto_annotation.driver")
    models = pytest.importorskip("cvat_sdk.models")
    ds_labels = [
        models.Label(id=100 + i, name=name, type="any", attributes=[], sublabels=[]) for i, name in enumerate(labels)
    ]
    media = SimpleNamespace(load_image=lambda: Image.fromarray(scene(3).image))
    sample = SimpleNamespace(frame_name="a.png", frame_index=7, media=media)
    dataset = SimpleNamespace(labels=ds_labels, samples=[sample])
    monkeypatch.setattr(driver, "TaskDataset", lambda client, task, load_annotations: dataset)
    taken = {}
    api = SimpleNamespace(
        partial_update_annotations=lambda action, task, patched_labeled_data_request: taken.update(
            task=task, shapes=patched_labeled_data_request.shapes
        )
    )
    client = SimpleNamespace(logger=logging.getLogger("cvat"), tasks=SimpleNamespace(api=api))
    driver.annotate_task(client, 137, function, **options)
    assert taken["task"] == 137 and all(shape.frame == 7 for shape in taken["shapes"])
    return {labels[shape.label_id - 100]: shape for shape in taken["shapes"]}, taken["shapes"]


def test_masks(monkeypatch, segmenter, want):
    by_name, shapes = run(monkeypatch, create(NAMES, segmenter=segmenter))
    masks = pytest.importorskip("cvat_sdk.masks")
    assert set(by_name) == {name for name, share in want.shares().items() if share} - {"background"} != set()
    for name, shape in by_name.items():
        drawn = masks.decode_mask(shape.points, image_width=224, image_height=224)
        assert shape.type.value == "mask" and np.array_equal(drawn, want.mask(name))
    assert len(shapes) == len(by_name)


def test_polygons_and_a_threshold(monkeypatch, segmenter, want):
    function = create(NAMES, segmenter=segmenter)
    _, shapes = run(monkeypatch, function, conv_mask_to_poly=True)
    assert [np.array(shape.points).reshape(-1, 2).tolist() for shape in shapes] == [
        corners.tolist() for _, corners in want.polygons()
    ]
    assert run(monkeypatch, function, conf_threshold=1.0)[1] == []


def test_labels_that_the_task_does_not_have(monkeypatch, segmenter):
    exceptions = pytest.importorskip("cvat_sdk.auto_annotation")
    with pytest.raises(exceptions.BadFunctionError, match="house"):
        run(monkeypatch, create(NAMES, segmenter=segmenter), labels=("car", "tree"))


def test_says_what_is_missing(monkeypatch, segmenter):
    monkeypatch.setitem(sys.modules, "cvat_sdk", None)
    monkeypatch.setitem(sys.modules, "cvat_sdk.auto_annotation", None)
    with pytest.raises(ImportError, match=r"pip install 'clipseg_ws\[cvat\]'"):
        create(NAMES, segmenter=segmenter)
