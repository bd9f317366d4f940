"""Boxes filled and seeds spread without a network."""

from __future__ import annotations

import layouts_eval as make
import numpy as np
import pytest
import torch
from fakes_eval import records
from PIL import Image

from clipseg_ws.eval.guard import parse_setting
from clipseg_ws.eval.predictors.without_network import WithoutNetwork, box_fill
from clipseg_ws.eval.run.request import Request, run_request
from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.constraints import constraints


def test_smaller_boxes_lie_on_top():
    weak = WeakLabels(boxes=(("a", 2, 2, 6, 5), ("b", 0, 0, 10, 8)))
    marks = constraints(weak, ("a", "b"), (8, 12))
    scores = box_fill(torch.zeros(3, 8, 12, dtype=torch.uint8), marks, 0.8)
    assert torch.allclose(scores.sum(0), torch.ones(8, 12)) and scores.amax() == pytest.approx(0.8)
    want = torch.zeros(8, 12, dtype=torch.int64)
    want[0:8, 0:10] = 2
    want[2:5, 2:6] = 1
    assert torch.equal(scores.argmax(0), want)


def discs(root):
    """Two pictures of a coloured disc on grey, with ignored pixels around it."""
    masks = {}
    for number, name in enumerate("ab"):
        y, x = np.mgrid[0:60, 0:80]
        distance = np.hypot(y - 30, x - 40 - 4 * number)
        masks[name] = np.where(distance < 18, number + 1, np.where(distance < 20, 255, 0)).astype(np.uint8)
    make.plain(root, masks)
    for name, mask in masks.items():
        colours = np.array([[90, 90, 90], [220, 30, 30], [30, 30, 220]], np.uint8)[np.where(mask == 255, 0, mask)]
        for old in (root / "images").glob(f"{name}.*"):
            old.unlink()
        Image.fromarray(colours).save(root / "images" / f"{name}.png")


def test_refiners_lift_a_box_and_strokes_spread(tmp_path):
    discs(tmp_path / "data")

    def rows(setting, method):
        out = tmp_path / setting
        request = Request("folder", setting=setting, method=method, root=tmp_path / "data", output=out, gallery=0)
        assert run_request(request, lambda text: None) == 0
        return {row["method"]: row for row in records(out / "results.csv")}

    boxes = rows("boxes", "box-fill,box-fill+refine=pamr+max_side=40,box-fill+refine=guided")
    fill = float(boxes["box-fill"]["mIoU"])
    assert 0.7 < fill < 0.95 and boxes["box-fill"]["labels_read"] == "boxes from masks"
    assert float(boxes["box-fill+refine=pamr+max_side=40"]["mIoU"]) > fill
    assert boxes["box-fill+refine=guided"]["refine"] == "guided"
    strokes = rows("scribbles", "seeds")
    assert float(strokes["seeds"]["mIoU"]) > 0.95 and strokes["seeds"]["backbone"] == "none"


def test_wrong():
    with pytest.raises(ValueError, match="'box-fill' reads boxes, got --setting zero"):
        WithoutNetwork("box-fill", parse_setting("zero"))
    with pytest.raises(ValueError, match="refine='x'"):
        WithoutNetwork("seeds", parse_setting("points"), refine="x")
