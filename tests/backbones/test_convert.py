"""transformers' CLIP checkpoints through our walk: the library's own numbers, in every form they are saved in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from clipseg_ws.backbones import UnsupportedBackbone, load_backbone
from clipseg_ws.backbones.convert import convert_clip, to_open_clip_state
from clipseg_ws.backbones.openclip import OpenClipBackbone

TEXTS = ["a clean origami cat.", "person with clothes,people,human", ""]
# an image tower with 3 blocks, a text tower with 2; widths whose MLP ratios are no round numbers
VISION = {"hidden_size": 48, "intermediate_size": 109, "num_hidden_layers": 3, "num_attention_heads": 4}
TEXT = {"hidden_size": 40, "intermediate_size": 77, "num_hidden_layers": 2, "num_attention_heads": 2}


def hf_clip(*, vision: dict | None = None, text: dict | None = None, **both) -> CLIPModel:
    """A small random CLIPModel in which every weight differs from every other (norms and biases too)."""
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={**VISION, "image_size": 64, "patch_size": 16, **both, **(vision or {})},
        text_config={**TEXT, **both, **(text or {})},
        projection_dim=24,
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def library_image(model: CLIPModel, pixels: Tensor) -> Tensor:
    out = model.get_image_features(pixel_values=pixels)
    return out if isinstance(out, Tensor) else out.pooler_output


@torch.no_grad()
def library_text(model: CLIPModel, tokens: Tensor) -> Tensor:
    out = model.get_text_features(input_ids=tokens)
    return torch.nn.functional.normalize(out if isinstance(out, Tensor) else out.pooler_output, dim=-1)


def assert_same_numbers(backbone: OpenClipBackbone, model: CLIPModel) -> None:
    """Image and text embeddings of the backbone equal the library's to 1e-5 in float32."""
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    image, text = library_image(model, pixels), library_text(model, backbone.tokenizer(TEXTS))
    assert image.abs().max() > 0.1  # not a comparison of zeros
    torch.testing.assert_close(backbone.embed(pixels), image, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backbone.embed_text(TEXTS), text, atol=1e-5, rtol=1e-5)
    assert backbone.logit_scale == pytest.approx(model.logit_scale.exp().item(), rel=1e-6)


def load(folder: Path) -> OpenClipBackbone:
    return load_backbone(f"local-dir:{folder}", device="cpu", dtype="float32", offline=True)


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_embeddings_equal_the_library(act, eps):
    model = hf_clip(hidden_act=act, layer_norm_eps=eps)
    assert_same_numbers(OpenClipBackbone(convert_clip(model.config, model.state_dict())), model)


def test_the_two_activations_can_be_told_apart():
    quick = hf_clip(hidden_act="quick_gelu")
    plain = hf_clip(hidden_act="gelu")
    plain.load_state_dict(quick.state_dict())
    with pytest.raises(AssertionError):
        assert_same_numbers(OpenClipBackbone(convert_clip(plain.config, plain.state_dict())), quick)


@pytest.mark.parametrize("shards", [False, True])
def test_saved_by_transformers(tmp_path, shards):
    model = hf_clip(hidden_act="gelu")
    model.save_pretrained(tmp_path, max_shard_size="300KB" if shards else "1GB")
    CLIPImageProcessor(size=64, crop_size=64, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4]).save_pretrained(
        tmp_path
    )
    assert (tmp_path / "model.safetensors.index.json").is_file() == shards
    backbone = load(tmp_path)
    assert_same_numbers(backbone, model)
    assert (backbone.mean, backbone.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert (backbone.native_grid, backbone.patch_size, backbone.width, backbone.heads) == ((4, 4), 16, 48, 4)


def test_old_checkpoints_pickle_with_position_ids_and_legacy_end_of_text(tmp_path):
    model = hf_clip(text={"eos_token_id": 2})
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert_same_numbers(load(tmp_path), model)


def test_converting_leaves_the_model_as_it_was():
    model = hf_clip()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    OpenClipBackbone(convert_clip(model.config, model.state_dict()))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_every_weight_is_used_once():
    model = hf_clip()
    converted = to_open_clip_state(model.state_dict())
    assert sum(value.numel() for value in converted.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_act": "gelu_new"}, "hidden_act"),
        ({"text": {"hidden_act": "gelu"}}, "hidden_act"),
        ({"vision": {"num_channels": 4}}, "num_channels"),
        ({"text": {"eos_token_id": 5}}, "end"),
        ({"text": {"vocab_size": 1000}}, "tokenizer"),
    ],
)
def test_what_open_clip_has_not_is_refused(change, words):
    model = hf_clip(**change)
    with pytest.raises(UnsupportedBackbone, match=words):
        convert_clip(model.config, model.state_dict())


@pytest.mark.parametrize("kind", ["blip", "clipseg", "clip_vision_model", "owlvit", None])
def test_other_kinds_of_checkpoint_are_refused(tmp_path, kind):
    hf_clip().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": kind}))
    with pytest.raises(UnsupportedBackbone, match=rf"{kind}.*hf:openai/clip"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda s: s.pop("vision_model.encoder.layers.1.self_attn.k_proj.bias"), "no visual.*1.attn.in_proj_bias"),
        (lambda s: s.pop("text_projection.weight"), "no text_projection"),
        (lambda s: s.update(adapter=torch.ones(2)), "unknown adapter"),
        (lambda s: s.update({"vision_model.pre_layrnorm.bias": torch.ones(3)}), r"ln_pre.bias is \[3\], not \[48\]"),
        (
            lambda s: s.update({"vision_model.embeddings.position_embedding.weight": torch.ones(37, 48)}),
            "64x64 pixels in patches of 16.*image_size 96 would fit 6x6",
        ),
    ],
)
def test_weights_that_do_not_fit_the_configuration(tmp_path, edit, words):
    hf_clip().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    edit(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=words):
        load(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    hf_clip().save_pretrained(tmp_path, max_shard_size="300KB")
    shard = sorted(tmp_path.glob("model-*.safetensors"))[-1]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        load(tmp_path)


def test_an_index_cannot_point_outside_the_folder(tmp_path):
    inside = tmp_path / "model"
    hf_clip().save_pretrained(inside)
    (inside / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = {"weight_map": {"logit_scale": "../model.safetensors"}}
    (inside / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="beside"):
        load(inside)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crop_size": {"height": 224, "width": 224}}, "224x224.*64x64"),
        ({"do_center_crop": False, "size": {"shortest_edge": 96}}, "96x96.*64x64"),
        ({"image_mean": [123.7, 116.3, 103.5]}, r"mean is .*\[0, 1\]"),
        ({"image_std": [0.0, 0.2, 0.2]}, "std"),
        ({"rescale_factor": 1.0}, "1/255"),
        ({"do_rescale": False}, "1/255"),
    ],
)
def test_preprocessing_that_contradicts_the_model(tmp_path, change, words):
    hf_clip().save_pretrained(tmp_path)
    CLIPImageProcessor(size=64, crop_size=64).save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=words):
        load(tmp_path)


def test_preprocessing_in_its_other_forms(tmp_path):
    hf_clip().save_pretrained(tmp_path)
    assert load(tmp_path).mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)  # no file: CLIP's own
    nested = {"image_processor": {"crop_size": 64, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1]}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert load(tmp_path).mean == (0.1, 0.2, 0.3)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False, "crop_size": [64, 64]}))
    assert (load(tmp_path).mean, load(tmp_path).std) == ((0, 0, 0), (1, 1, 1))


def clip_vocabulary() -> dict[str, int]:
    """CLIP's vocabulary as transformers spells it."""
    from open_clip.tokenizer import SimpleTokenizer

    ends = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    return {ends.get(token, token): index for token, index in SimpleTokenizer().encoder.items()}


@pytest.mark.parametrize("file", ["vocab.json", "tokenizer.json"])
def test_a_folders_own_vocabulary_must_be_clips(tmp_path, file):
    hf_clip().save_pretrained(tmp_path)
    vocabulary = clip_vocabulary()
    wrap = (lambda v: {"model": {"type": "BPE", "vocab": v}}) if file == "tokenizer.json" else (lambda v: v)
    (tmp_path / file).write_text(json.dumps(wrap(vocabulary)))
    load(tmp_path)
    shifted = {token: (index + 1) % len(vocabulary) for token, index in vocabulary.items()}
    (tmp_path / file).write_text(json.dumps(wrap(shifted)))
    with pytest.raises(ValueError, match="not CLIP's vocabulary"):
        load(tmp_path)
