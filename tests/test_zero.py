"""The zero setting beyond one preset: a second vision model, options of the dense family, many names."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws import Segmenter
from clipseg_ws.backbones.features import FeatureBackbone


@pytest.fixture(scope="module")
def dino():
    """A small random DINOv2 with patches of 14 pixels."""
    import transformers as tf

    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return FeatureBackbone(tf.Dinov2Model(tf.Dinov2Config(patch_size=14, image_size=56, **sizes)), name="small-dino")


def test_features_are_loaded_by_name_and_shared_by_variants(tiny_backbone, dino, tmp_path):
    dino.model.save_pretrained(tmp_path)
    segmenter = Segmenter(backbone=tiny_backbone, features=f"local-dir:{tmp_path}", dtype="float32")
    assert segmenter.features.name == f"local-dir:{tmp_path}"
    assert segmenter.features.weights_sha256 == dino.weights_sha256
    assert segmenter.variant("maskclip").features is segmenter.features
    assert Segmenter(backbone=tiny_backbone, features=dino).features is dino
    assert Segmenter(backbone=tiny_backbone).features is None
