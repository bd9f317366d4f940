"""Quality of the embedded model on held-out scenes: floors well below what the model card records, far above chance."""

from __future__ import annotations

import pytest
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.embedded.nano.scenes import KINDS, held_out
from clipseg_ws.eval.metrics import ConfusionMatrix

FLOORS = [  # method, by tags, floor of the mIoU over 24 scenes; measured values are in eval/results/scenes.csv
    ("cam", True, 0.50),
    ("clip-es", True, 0.50),
    ("default", True, 0.60),
    ("default", False, 0.50),
]


@pytest.fixture(scope="module")
def scenes():
    return list(held_out(24, 224))


@pytest.fixture(scope="module")
def nano():
    return Segmenter("nano", dtype="float32", cache_mb=400)


@pytest.mark.parametrize(("method", "tags", "floor"), FLOORS)
def test_held_out_scenes(nano, scenes, method, tags, floor):
    pictures = [Image.fromarray(scene.image) for scene in scenes]
    given = [list(scene.tags) for scene in scenes] if tags else None
    results = nano.variant(method, cache_mb=400)(pictures, classes=list(KINDS), tags=given)
    matrix = ConfusionMatrix(len(KINDS) + 1)
    for result, scene in zip(results, scenes, strict=True):
        matrix.update(result.labels, scene.labels)
    assert matrix.compute()["mIoU"] >= floor
