"""ProxyCLIP against the recorded reference, a plain loop, and random models of transformers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import golden_cases

from clipseg_ws.activations.proxy import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    patch_features,
    proxy_attention,
    proxy_embeddings,
    proxy_values,
)
from clipseg_ws.activations.textscores import word_logits
from clipseg_ws.backbones.features import FeatureBackbone
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.backbones.preprocessing import CLIP_MEAN, CLIP_STD
from clipseg_ws.structures import Tokens


@pytest.fixture(scope="module")
def golden_backbone(golden) -> OpenClipBackbone:
    import open_clip

    model = open_clip.model.CLIP(
        embed_dim=64,
        vision_cfg={"image_size": 64, "layers": 12, "width": 128, "head_width": 64, "patch_size": 16},
        text_cfg={"context_length": 77, "vocab_size": 512, "width": 32, "heads": 2, "layers": 1},
        quick_gelu=True,
    )
    model.visual.load_state_dict({k.removeprefix("visual."): v.float() for k, v in golden("tower").items()})
    return OpenClipBackbone(model, position_interpolation="bicubic-offset")


@pytest.mark.parametrize("case", golden_cases("proxy"))
@pytest.mark.parametrize("batch", [1, 2])
def test_matches_the_reference(case, batch, golden, golden_manifest, golden_backbone):
    """B=2 holds another picture besides, which must not change the recorded one."""
    entry, stored = golden_manifest[case], golden(case)
    generator = torch.Generator().manual_seed(0)
    pixels, features = stored["pixels"], stored["proxy_features"]
    if batch == 2:
        pixels = torch.cat([torch.randn(pixels.shape, generator=generator), pixels])
        features = torch.cat([torch.randn(features.shape, generator=generator) + 1, features])
    tokens = golden_backbone.encode(pixels, attention_blocks=0)
    par = {k: entry["parameters"][k] for k in ("beta", "gamma")}
    unit = proxy_embeddings(golden_backbone, tokens, features, **par)
    got = {
        "attention": proxy_attention(features, **par)[-1],
        "value_upsampled": proxy_values(golden_backbone, tokens, tuple(features.shape[2:]))[-1],
        "normalized": unit.flatten(1, 2)[-1:],
        "logits": word_logits(unit, stored["text"]).flatten(2).transpose(1, 2)[-1:],
    }
    for name, value in got.items():
        atol = entry["tensors"][name]["tolerance"]["value"]
        torch.testing.assert_close(value, stored[name], rtol=0, atol=atol)
    assert unit.shape[1:3] == tuple(features.shape[2:])


def test_attention_matches_a_plain_loop_on_a_rectangle():
    features = torch.randn(2, 5, 2, 3, generator=torch.Generator().manual_seed(3)) + 0.4
    got = proxy_attention(features, beta=1.1, gamma=2.0)
    for b in range(2):
        cells = [features[b, :, i // 3, i % 3] for i in range(6)]
        s = [[float(F.cosine_similarity(x, y, dim=0)) for y in cells] for x in cells]
        mean = sum(map(sum, s)) / 36
        for i in range(6):
            kept = [2.0 * (v - 1.1 * mean) for v in s[i]]
            weights = [math.exp(v) if v >= 0 else 0.0 for v in kept]
            expected = torch.tensor([v / sum(weights) for v in weights])
            torch.testing.assert_close(got[b, i], expected, rtol=0, atol=1e-5)


def test_nearly_constant_features_give_no_nan():
    features = torch.ones(1, 4, 3, 3) + 1e-3 * torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    attention = proxy_attention(features)
    assert torch.isfinite(attention).all()
    torch.testing.assert_close(attention, torch.full((1, 9, 9), 1 / 9), rtol=0, atol=1e-3)


def test_batch_size_must_fit(tiny_backbone):
    tokens = tiny_backbone.encode(torch.randn(2, 3, 32, 48))
    with pytest.raises(ValueError, match="B=2"):
        proxy_embeddings(tiny_backbone, tokens, torch.randn(3, 8, 4, 6))


def random_model(name: str):
    import transformers

    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    if name == "sam":
        config = transformers.SamVisionConfig(
            **small, image_size=64, patch_size=16, output_channels=8, window_size=2, global_attn_indexes=[1], mlp_dim=64
        )
        return transformers.SamVisionModel(config).eval()
    kinds = {
        "dino": (transformers.ViTConfig, transformers.ViTModel, {"image_size": 32, "patch_size": 8}),
        "dinov2": (transformers.Dinov2Config, transformers.Dinov2Model, {"image_size": 28, "patch_size": 14}),
        "registers": (
            transformers.Dinov2WithRegistersConfig,
            transformers.Dinov2WithRegistersModel,
            {"image_size": 28, "patch_size": 14, "num_register_tokens": 4},
        ),
        "dinov3": (
            transformers.DINOv3ViTConfig,
            transformers.DINOv3ViTModel,
            {"image_size": 32, "patch_size": 16, "num_register_tokens": 4, "intermediate_size": 64},
        ),
    }
    config, model, more = kinds[name]
    return FeatureBackbone(model(config(**small, **more)))


@pytest.mark.parametrize(
    ("name", "grid"),
    [("dino", (6, 10)), ("dinov2", (4, 6)), ("registers", (4, 6)), ("dinov3", (3, 5)), ("sam", (4, 4))],
)
def test_features_of_any_transformers_model_drive_it(name, grid, tiny_backbone):
    model = random_model(name)
    pixels = torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(1))
    features = patch_features(model, pixels, pixel_mean=CLIP_MEAN, pixel_std=CLIP_STD)
    assert features.shape[0] == 2 and features.shape[2:] == grid
    alone = patch_features(model, pixels[1:], pixel_mean=CLIP_MEAN, pixel_std=CLIP_STD)
    assert (alone[0] - features[1]).abs().max() < 1e-5
    unit = proxy_embeddings(tiny_backbone, tiny_backbone.encode(pixels), features)
    assert unit.shape == (2, *grid, tiny_backbone.embed_dim) and torch.isfinite(unit).all()


def test_features_are_the_models_own_patch_tokens_in_order():
    """At the model's own size, with ImageNet pixels, nothing is resized: the last hidden state without extra tokens."""
    model = random_model("registers")
    pixels = torch.randn(1, 3, 28, 42, generator=torch.Generator().manual_seed(1))
    features = patch_features(model, pixels, pixel_mean=IMAGENET_MEAN, pixel_std=IMAGENET_STD)
    with torch.no_grad():
        hidden = model.model(pixels).last_hidden_state
    assert hidden.shape[1] == 5 + 6
    torch.testing.assert_close(features[0, :, 1, 2], hidden[0, 5 + 1 * 3 + 2], rtol=0, atol=1e-4)


def test_pixels_are_normalised_anew():
    class Echo:
        """Gives its pixels back, one patch a pixel."""

        patch_size, mean, std = 1, IMAGENET_MEAN, IMAGENET_STD

        def encode(self, pixels, attention_blocks):
            patches = pixels.flatten(2).transpose(1, 2)
            sequence = torch.cat([patches[:, :1] * float("nan"), patches], 1)
            return Tokens(sequence, None, {}, (pixels.shape[2], pixels.shape[3]))

    picture = torch.rand(2, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    clip = (picture - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)
    expected = (picture - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    got = patch_features(Echo(), clip, pixel_mean=CLIP_MEAN, pixel_std=CLIP_STD)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


def test_an_unwrapped_model_says_how_to_wrap_it():
    with pytest.raises(ValueError, match="FeatureBackbone"):
        patch_features(random_model("dinov2").model, torch.zeros(1, 3, 28, 28))
