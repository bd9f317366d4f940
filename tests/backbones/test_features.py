"""Feature models: small random transformers of several kinds, saved and loaded."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.backbones import UnsupportedBackbone, WeightsNotFound, load_features
from clipseg_ws.backbones.families import FEATURE_KINDS
from clipseg_ws.backbones.features import FeatureBackbone

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}


def build(kind: str):
    """(random model, patch size)."""
    import transformers as tf

    torch.manual_seed(0)
    makers = {
        "dinov2": lambda: tf.Dinov2Model(tf.Dinov2Config(patch_size=14, image_size=56, **SMALL)),
        "dinov2-registers": lambda: tf.Dinov2WithRegistersModel(
            tf.Dinov2WithRegistersConfig(patch_size=14, image_size=56, num_register_tokens=2, **SMALL)
        ),
        "dinov3": lambda: tf.DINOv3ViTModel(
            tf.DINOv3ViTConfig(patch_size=16, image_size=64, num_register_tokens=4, **SMALL)
        ),
        "vit": lambda: tf.ViTModel(tf.ViTConfig(patch_size=16, image_size=64, **SMALL)),
        "clip": lambda: tf.CLIPVisionModel(tf.CLIPVisionConfig(patch_size=16, image_size=64, **SMALL)),
        "siglip": lambda: tf.SiglipVisionModel(tf.SiglipVisionConfig(patch_size=16, image_size=64, **SMALL)),
    }
    model = makers[kind]().eval()
    return model, model.config.patch_size


KINDS = ("dinov2", "dinov2-registers", "dinov3", "vit", "clip", "siglip")
EXTRA = {"dinov2": 1, "dinov2-registers": 3, "dinov3": 5, "vit": 1, "clip": 1, "siglip": 0}


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    """(kind, folder, pixels, the library's own output for them)."""
    folder = tmp_path_factory.mktemp(request.param)
    model, p = build(request.param)
    model.save_pretrained(folder)
    pixels = torch.randn(2, 3, 3 * p, 5 * p, generator=torch.Generator().manual_seed(1))
    options = {"interpolate_pos_encoding": True} if request.param in ("vit", "clip", "siglip") else {}
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(pixels, output_attentions=True, output_hidden_states=True, **options)
    return request.param, folder, pixels, out


def test_tokens_are_the_librarys(saved):
    kind, folder, pixels, out = saved
    backbone = load_features(f"local-dir:{folder}", device="cpu", dtype="float32")
    tokens = backbone.encode(pixels, attention_blocks=2, keep_layers=(0,))
    extra = EXTRA[kind]
    assert tokens.grid == (3, 5) and tokens.last_input.shape == (2, 16, 32)
    assert torch.allclose(tokens.last_input[:, 1:], out.last_hidden_state[:, extra:], atol=1e-5)
    if extra:
        assert torch.allclose(tokens.last_input[:, 0], out.last_hidden_state[:, 0], atol=1e-5)
    assert torch.allclose(tokens.layers[0], out.hidden_states[1][:, extra:], atol=1e-5)
    want = sum(a[:, :, extra:, extra:].mean(1) for a in out.attentions[-2:]) / 2
    assert torch.allclose(tokens.attention, want, atol=1e-6)
    assert backbone.encode(pixels, attention_blocks=0).attention is None
    alone = backbone.encode(pixels[1:], attention_blocks=2)
    assert torch.allclose(alone.last_input, tokens.last_input[1:], atol=1e-5)


def test_hash_follows_the_weights(tmp_path):
    model, _ = build("dinov2")
    before = FeatureBackbone(model).weights_sha256
    model.save_pretrained(tmp_path)
    for dtype in ("float32", "bfloat16"):
        assert load_features(f"local-dir:{tmp_path}", device="cpu", dtype=dtype).weights_sha256 == before
    with torch.no_grad():
        next(model.parameters()).add_(1e-2)
    assert FeatureBackbone(model).weights_sha256 != before


def test_vision_tower_of_a_two_tower_model_and_its_preprocessing(tmp_path):
    import transformers as tf

    torch.manual_seed(0)
    text = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 64,
    }
    vision = tf.CLIPVisionConfig(patch_size=16, image_size=64, **SMALL).to_dict()
    config = tf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    tf.CLIPModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}')
    backbone = load_features(f"local-dir:{tmp_path}", device="cpu")
    assert backbone.mean == (0.5, 0.4, 0.3) and backbone.std == (0.2, 0.2, 0.1)
    assert backbone.encode(torch.zeros(1, 3, 32, 48)).last_input.shape == (1, 7, 32)


def test_without_preprocessing_imagenet(tmp_path):
    build("dinov2")[0].save_pretrained(tmp_path)
    assert load_features(f"local-dir:{tmp_path}", device="cpu").mean == (0.485, 0.456, 0.406)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [127, 127, 127], "image_std": [1, 1, 1]}')
    with pytest.raises(ValueError, match="three numbers each"):
        load_features(f"local-dir:{tmp_path}", device="cpu")


def test_sizes_and_layers_are_checked():
    backbone = FeatureBackbone(build("dinov2")[0], name="tiny")
    with pytest.raises(ValueError, match="multiples of the patch size 14 of tiny"):
        backbone.encode(torch.zeros(1, 3, 32, 28))
    with pytest.raises(ValueError, match="indices 0 to 2"):
        backbone.encode(torch.zeros(1, 3, 28, 28), keep_layers=(3,))


def test_clear_errors(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="hf:REPO"):
        load_features("dinov2")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_features(f"local-dir:{tmp_path / 'none'}")
    with pytest.raises(FileNotFoundError, match=r"config\.json, model\.safetensors"):
        load_features(f"local-dir:{tmp_path}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsNotFound, match="offline mode is on"):
        load_features("hf:nobody/nothing-of-the-kind")


def test_networks_without_patches_are_refused(tmp_path):
    import transformers as tf

    torch.manual_seed(0)
    tf.ResNetModel(tf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedBackbone, match="Dinov2Model"):
        load_features(f"local-dir:{tmp_path}", device="cpu")


def test_missing_weights_are_an_error(tmp_path):
    from safetensors.torch import load_file, save_file

    build("dinov2")[0].save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop(next(k for k in weights if k.endswith("query.weight")))
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="weights are missing"):
        load_features(f"local-dir:{tmp_path}", device="cpu")


def test_sam_encoder_takes_any_size_and_keeps_its_own_grid(tmp_path):
    import transformers as tf

    torch.manual_seed(0)
    config = tf.SamVisionConfig(
        image_size=64, patch_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_dim=64,
        output_channels=24, window_size=2, global_attn_indexes=[1],
    )  # fmt: skip
    model = tf.SamVisionModel(config).eval()
    model.save_pretrained(tmp_path)
    backbone = load_features(f"local-dir:{tmp_path}", device="cpu", dtype="float32")
    pixels = torch.randn(2, 3, 32, 96, generator=torch.Generator().manual_seed(1))
    tokens = backbone.encode(pixels, keep_layers=(0,))
    assert tokens.grid == (4, 4) and tokens.last_input.shape == (2, 17, 24) and backbone.width == 24
    assert tokens.attention is None and tokens.layers[0].shape == (2, 16, 32)
    with torch.no_grad():
        resized = torch.nn.functional.interpolate(pixels, size=(64, 64), mode="bilinear")
        expected = model(resized).last_hidden_state
    torch.testing.assert_close(tokens.last_input[:, 1:].transpose(1, 2).unflatten(2, (4, 4)), expected)


def other(kind: str):
    """Models that take pictures in ways of their own."""
    import transformers as tf

    torch.manual_seed(0)
    makers = {
        "siglip2": lambda: tf.Siglip2VisionModel(tf.Siglip2VisionConfig(patch_size=16, num_patches=16, **SMALL)),
        "vit_mae": lambda: tf.ViTMAEModel(tf.ViTMAEConfig(patch_size=16, image_size=64, **SMALL)),
        "aimv2": lambda: tf.Aimv2VisionModel(tf.Aimv2VisionConfig(patch_size=16, image_size=64, **SMALL)),
        "vitdet": lambda: tf.VitDetModel(tf.VitDetConfig(patch_size=16, image_size=64, **SMALL)),
        "swin": lambda: tf.SwinModel(
            tf.SwinConfig(patch_size=4, image_size=64, embed_dim=8, depths=[1, 1], num_heads=[1, 2])
        ),
        "videomae": lambda: tf.VideoMAEModel(tf.VideoMAEConfig(patch_size=16, image_size=64, **SMALL)),
    }  # fmt: skip
    return makers[kind]().eval()


@torch.no_grad()
def test_siglip_2_for_any_size():
    model = other("siglip2")
    backbone = FeatureBackbone(model)
    pixels = torch.randn(2, 3, 48, 80)
    x = pixels.reshape(2, 3, 3, 16, 5, 16).permute(0, 2, 4, 3, 5, 1).reshape(2, 15, 768)
    own = model(x, torch.ones(2, 15, dtype=torch.long), torch.tensor([[3, 5]] * 2)).last_hidden_state
    tokens = backbone.encode(pixels, attention_blocks=2, keep_layers=(0,))
    assert torch.allclose(tokens.last_input[:, 1:], own, atol=1e-5)
    assert tokens.attention.shape == (2, 15, 15) and tokens.layers[0].shape == (2, 15, 32)


@torch.no_grad()
def test_no_patch_of_a_masked_autoencoder_is_hidden_or_moved():
    model = other("vit_mae")
    tokens = FeatureBackbone(model).encode(torch.randn(1, 3, 48, 80))
    assert tokens.last_input.shape == (1, 16, 32)
    spot = torch.zeros(1, 3, 48, 80)
    spot[:, :, 16:32, 32:48] = 5.0  # the patch in row 1, column 2
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    backbone = FeatureBackbone(model)
    with_spot, without = (backbone.encode(x).last_input[0, 1:] for x in (spot, torch.zeros_like(spot)))
    changed = (with_spot - without).norm(dim=-1)
    assert int(changed.argmax()) == 1 * 5 + 2


@torch.no_grad()
@pytest.mark.parametrize(("kind", "grid"), [("aimv2", (4, 4)), ("vitdet", (3, 5))])
def test_one_size_and_maps(kind, grid):
    tokens = FeatureBackbone(other(kind)).encode(torch.randn(2, 3, 48, 80), keep_layers=(0,))
    count = grid[0] * grid[1]
    assert tokens.grid == grid and tokens.last_input.shape == (2, count + 1, 32)
    assert tokens.layers[0].shape == (2, count, 32)


@pytest.mark.parametrize("kind", ["swin", "videomae"])
def test_what_is_no_vit_on_a_grid_says_so(kind):
    with pytest.raises(ValueError, match="Dinov2Model"):  # UnsupportedBackbone is one
        FeatureBackbone(other(kind)).encode(torch.randn(1, 3, 64, 64))


def test_the_table_of_kinds_says_who_cannot_spread_maps():
    assert [name for name, entry in FEATURE_KINDS.items() if not entry.about["affinity"]] == ["sam"]
    assert "affinity=false" in FEATURE_KINDS["sam"].summary
