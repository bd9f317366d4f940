"""The zero setting beyond one preset: a second vision model, options of the dense family, many names."""

from __future__ import annotations

import pytest
from conftest import small_dino

from clipseg_ws import Segmenter


@pytest.fixture(scope="module")
def dino():
    return small_dino()


def test_features_are_loaded_by_name_and_shared_by_variants(tiny_backbone, dino, tmp_path):
    dino.model.save_pretrained(tmp_path)
    segmenter = Segmenter(backbone=tiny_backbone, features=f"local-dir:{tmp_path}", dtype="float32")
    assert segmenter.features.name == f"local-dir:{tmp_path}"
    assert segmenter.features.weights_sha256 == dino.weights_sha256
    assert segmenter.variant("maskclip").features is segmenter.features
    assert Segmenter(backbone=tiny_backbone, features=dino).features is dino
    assert Segmenter(backbone=tiny_backbone).features is None
