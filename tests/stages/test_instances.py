"""Instances of an answer: by boxes where there are any, else by peaks; through the Segmenter."""

from __future__ import annotations

import numpy as np
import torch

from clipseg_ws import Segmenter
from clipseg_ws.stages.instances import instances
from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.constraints import constraints

NAMES = ("cat", "dog", "sofa")


def test_classes_in_label_order_and_boxes_first():
    labels = torch.zeros(32, 64, dtype=torch.int64)
    labels[4:20, 4:30], labels[4:20, 40:60] = 3, 1
    scores = torch.zeros(2, 32, 64)
    scores[0, 4:20, 4:30], scores[1, 4:20, 40:60] = 0.9, 0.8  # of sofa, then of cat
    weak = WeakLabels(boxes=(("sofa", 4, 4, 15, 20), ("sofa", 15, 4, 30, 20)), tags=("cat", "sofa"))
    marks = constraints(weak, NAMES, (32, 64)).select([2, 0])
    labels, scores = labels.numpy(), scores.numpy()
    found = instances(labels, scores, [2, 0], marks)
    assert found.dtype == np.int32 and ((found > 0) == (labels > 0)).all()
    assert (found[4:20, 40:60] == 1).all()  # cat comes first
    assert (found[4:20, 4:15] == found[10, 10]).all() and (found[4:20, 15:30] == found[10, 20]).all()
    assert {found[10, 10], found[10, 20]} == {2, 3}
    assert instances(labels, scores, [2, 0], None).max() == 2  # without boxes two regions are two instances


def test_through_the_segmenter(tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path))
    picture = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    segment = Segmenter(backbone=tiny_backbone, attention_blocks=2, instances=True)
    for method in ("default", "maskclip"):
        given = {} if method == "default" else {"short_side": None, "window": 0, "background_threshold": 0.0}
        result = segment.variant(method, instances=True, **given)(
            picture, classes=NAMES, tags=["cat", "dog"], background=()
        )
        found = result.extras["instances"]
        assert found.shape == (48, 80) and ((found > 0) == (result.labels > 0)).all() and found.any()
        for number in range(1, found.max() + 1):
            assert len(np.unique(result.labels[found == number])) == 1
    assert "instances" not in segment.variant(instances=False)(picture, classes=NAMES, tags=["cat"]).extras
