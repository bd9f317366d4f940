"""``wrap``: models that somebody has built already, and what is said where it cannot be done."""

from __future__ import annotations

import open_clip
import pytest
import torch
from conftest import tiny_clip
from transformers import CLIPConfig, CLIPModel

from clipseg_ws.backbones import MODELS, UnsupportedBackbone, wrap

VISION = {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
TEXTS = ["a photo of a cat.", "grass"]


def hf_clip(**both) -> CLIPModel:
    torch.manual_seed(0)
    tower = {"intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4, **both}
    vision = {"hidden_size": 48, "image_size": 64, "patch_size": 16, **tower}
    return CLIPModel(
        CLIPConfig(vision_config=vision, text_config={"hidden_size": 40, **tower}, projection_dim=24)
    ).eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["CLIP", "CustomTextCLIP", "subclass"])
def test_what_open_clip_built(kind):
    torch.manual_seed(0)
    build = {
        "CLIP": open_clip.model.CLIP,
        "CustomTextCLIP": open_clip.model.CustomTextCLIP,
        "subclass": type("FineTuned", (open_clip.model.CLIP,), {}),
    }[kind]
    model = build(embed_dim=32, vision_cfg=VISION, text_cfg=TEXT, quick_gelu=True).eval()
    pixels = torch.randn(2, 3, 64, 64)
    backbone = wrap(model, name="mine", position_interpolation="bilinear")
    assert (backbone.name, backbone.position_interpolation) == ("mine", "bilinear")
    torch.testing.assert_close(backbone.embed(pixels), model.encode_image(pixels), atol=1e-5, rtol=1e-5)
    want = model.encode_text(open_clip.tokenize(TEXTS), normalize=True)
    torch.testing.assert_close(backbone.embed_text(TEXTS), want, atol=1e-5, rtol=1e-5)


def test_preprocessing_is_what_open_clip_noted_or_what_is_given():
    model = tiny_clip()
    assert wrap(model).mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    model.visual.image_mean, model.visual.image_std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    assert (wrap(model).mean, wrap(model).std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert wrap(model, mean=(0.1, 0.2, 0.3)).mean == (0.1, 0.2, 0.3)


@torch.no_grad()
def test_what_transformers_built():
    model = hf_clip()
    pixels = torch.randn(2, 3, 64, 64)
    want = model.get_image_features(pixel_values=pixels)
    want = want if isinstance(want, torch.Tensor) else want.pooler_output
    backbone = wrap(model, name="mine")
    torch.testing.assert_close(backbone.embed(pixels), want, atol=1e-5, rtol=1e-5)
    assert all(parameter.requires_grad for parameter in model.parameters())  # converted: the model stays as it was


@torch.no_grad()
def test_a_fine_tuned_model_in_half_precision_keeps_its_dtype():
    for model in (tiny_clip(), hf_clip()):
        backbone = wrap(model.to(torch.bfloat16))
        assert backbone.dtype == torch.bfloat16 and backbone.embed_text(TEXTS).dtype == torch.float32
        assert backbone.encode(torch.randn(1, 3, 32, 48)).last_input.isfinite().all()


def test_a_segmenter_takes_a_wrapped_model():
    from PIL import Image

    from clipseg_ws import Segmenter

    result = Segmenter(backbone=wrap(tiny_clip()))(Image.new("RGB", (64, 48), "red"), classes="cat; sofa")
    assert result.labels.shape == (48, 64)


def test_other_classes_are_refused_with_what_works():
    with pytest.raises(UnsupportedBackbone) as caught:
        wrap(torch.nn.Linear(2, 2))
    message = str(caught.value)
    assert message.startswith("a torch.nn.modules.linear.Linear cannot be used") and "wrap(open_clip" in message
    assert all(name in message for name in MODELS)
    import transformers as tf

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    with pytest.raises(UnsupportedBackbone, match=r"Dinov2Model.*do not speak|not known to speak"):
        wrap(tf.Dinov2Model(tf.Dinov2Config(patch_size=14, image_size=28, **small)))


@pytest.mark.parametrize(
    ("vision", "words"),
    [
        ({"layers": (1, 1, 1, 1), "patch_size": None}, "ModifiedResNet"),
        ({"attentional_pool": "cascade"}, "pools twice by attention"),
        ({"qk_norm": True}, "normalised"),
    ],
)
def test_other_towers_of_open_clip(vision, words):
    model = open_clip.model.CLIP(embed_dim=32, vision_cfg=VISION | vision, text_cfg=TEXT)
    with pytest.raises(UnsupportedBackbone, match=f"{words}.*ViT-B-16-quickgelu/openai"):
        wrap(model)


def test_another_vocabulary_needs_its_tokenizer():
    model = open_clip.model.CLIP(embed_dim=32, vision_cfg=VISION, text_cfg=TEXT | {"vocab_size": 1000})
    with pytest.raises(UnsupportedBackbone, match=r"1000 tokens.*tokenizer="):
        wrap(model)
    own = wrap(model, tokenizer=lambda texts: torch.ones(len(texts), 77, dtype=torch.long))
    assert own.embed_text(TEXTS).shape == (2, 32)


def test_other_activations_of_transformers():
    with pytest.raises(UnsupportedBackbone, match="hidden_act"):
        wrap(hf_clip(hidden_act="gelu_new"))
