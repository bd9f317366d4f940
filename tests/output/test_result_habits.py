"""What a result does in Python and in a notebook: boxes, polygons, run lengths, COCO, cut-outs, its own pictures."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from clipseg_ws import Segmentation, WeakLabels
from clipseg_ws.output.things import Box

LABELS = np.zeros((20, 30), np.uint8)  # two cats of which one is a ring, a sofa; "dog" is absent
LABELS[2:8, 3:9], LABELS[4:6, 5:7] = 1, 0
LABELS[10:15, 20:28] = 1
LABELS[17:19, 0:4] = 3
INSTANCES = np.zeros((20, 30), np.int32)
INSTANCES[2:8, 3:9], INSTANCES[10:15, 20:28] = 1, 2
INSTANCES[17:19, 0:4] = 3
INSTANCES[LABELS == 0] = 0


def answer(**changes) -> Segmentation:
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    scores, names = {"cat": 0.75, "dog": 0.125}, ("cat", "dog", "<sofa>")
    seg = Segmentation(LABELS, names, scores, np.ones(LABELS.shape, np.float32), image=Image.fromarray(picture))
    return replace(seg, **changes)


def test_boxes_a_class_or_an_instance():
    assert answer().boxes() == [Box("cat", 3, 2, 28, 15, 0.75), Box("<sofa>", 0, 17, 4, 19, None)]
    told = answer(extras={"instances": INSTANCES})
    assert [box[:5] for box in told.boxes()] == [
        ("cat", 3, 2, 9, 8), ("cat", 20, 10, 28, 15), ("<sofa>", 0, 17, 4, 19),
    ]  # fmt: skip
    assert told.instances is INSTANCES and answer().instances is None
    assert WeakLabels(boxes=tuple(box[:5] for box in told.boxes())).boxes[1][1:] == (20, 10, 28, 15)


def test_polygons_fill_the_masks_again():
    from PIL import ImageDraw

    filled = np.zeros((20, 30, 2), bool)
    for name, corners in answer().polygons():
        canvas = Image.new("1", (300, 200))  # ten pixels a pixel, so that the rule for borders does not count
        ImageDraw.Draw(canvas).polygon([(10 * x, 10 * y) for x, y in corners.tolist()], fill=1)
        filled[..., int(name == "<sofa>")] |= np.asarray(canvas)[5::10, 5::10]
    assert np.array_equal(filled[..., 0], LABELS == 1) and np.array_equal(filled[..., 1], LABELS == 3)


def test_run_lengths_are_cocos():
    coco = pytest.importorskip("pycocotools.mask")
    made = answer().rle()
    assert set(made) == {"cat", "<sofa>"}
    assert np.array_equal(coco.decode(made["cat"]).astype(bool), LABELS == 1)


@pytest.mark.parametrize("style", ["rle", "polygons"])
def test_coco(style):
    if style == "rle":
        pytest.importorskip("pycocotools")
    content = answer(extras={"instances": INSTANCES}, source="trip/a.jpg").to_coco(style)
    assert json.loads(json.dumps(content)) == content
    assert content["images"] == [{"id": 1, "file_name": "a.jpg", "width": 30, "height": 20}]
    assert [entry["category_id"] for entry in content["annotations"]] == [1, 1, 3]
    assert [entry["bbox"] for entry in content["annotations"]][1] == [20, 10, 8, 5]
    assert content["annotations"][0]["score"] == 0.75 and content["annotations"][0]["area"] == 32


def test_a_cutout_is_the_class_alone():
    seg = answer()
    whole = np.asarray(seg.cutout("cat"))
    assert whole.shape == (20, 30, 4) and np.array_equal(whole[..., 3] == 255, LABELS == 1)
    assert np.array_equal(whole[LABELS == 1][:, :3], np.asarray(seg.image)[LABELS == 1])
    cropped = np.asarray(seg.cutout("cat", crop=True))
    assert np.array_equal(cropped, whole[2:15, 3:28])
    assert not np.asarray(seg.cutout("dog"))[..., 3].any()
    with pytest.raises(ValueError, match="'dog' has no pixel"):
        seg.cutout("dog", crop=True)
    with pytest.raises(KeyError, match="was not asked for"):
        seg.cutout("cow")


def test_a_short_text():
    assert repr(answer(source="a.jpg")) == (
        f"Segmentation(a.jpg, 30 x 20 px: cat {72 / 600:.1%}, <sofa> {8 / 600:.1%}, background {520 / 600:.1%})"
    )
    many = np.arange(600, dtype=np.uint8).reshape(20, 30) % 40
    text = repr(answer(labels=many, names=tuple(f"c{i}" for i in range(1, 40)), scores={}))
    assert len(text) < 200 and "and 35 more" in text


def test_a_notebook_shows_overlay_and_table():
    seg = answer()
    assert Image.open(io.BytesIO(seg._repr_png_())).width >= 30
    page = seg._repr_html_()
    data = re.search(r"data:image/png;base64,([^\"]+)", page)
    assert data and Image.open(io.BytesIO(base64.b64decode(data[1]))).size == (30, 20)
    assert "&lt;sofa&gt;" in page and "<sofa>" not in page and "dog" not in page and "0.750" in page


def test_a_notebook_shows_results_without_a_picture_and_large_ones():
    bare = answer(image=None)
    assert Image.open(io.BytesIO(bare._repr_png_())).size[0] >= 30 and "cat" in bare._repr_html_()
    large = answer(labels=LABELS.repeat(100, 0).repeat(100, 1), image=Image.new("RGB", (3000, 2000)))
    assert max(Image.open(io.BytesIO(large._repr_png_())).size) <= 900
