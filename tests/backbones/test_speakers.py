"""transformers' text-aligned models of every kind: parity, positions, folders, tokenizers; small and random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from clipseg_ws.backbones import MODELS, UnsupportedBackbone, load_backbone, wrap
from clipseg_ws.backbones.families import SPEAKERS
from clipseg_ws.backbones.last_block import LastBlockWeights

TOWER = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
IMAGE = TOWER | {"image_size": 64, "patch_size": 16}
WORDS = {"vocab_size": 40, **TOWER}
LETTERS = {chr(97 + i): 4 + i for i in range(26)}
CONFIGS = {
    "clip": lambda: tf.CLIPConfig(vision_config=IMAGE, text_config=TOWER, projection_dim=24),
    "siglip": lambda: tf.SiglipConfig(vision_config=IMAGE, text_config=WORDS | {"max_position_embeddings": 64}),
    "siglip2": lambda: tf.Siglip2Config(
        vision_config=TOWER | {"patch_size": 16, "num_patches": 16}, text_config=WORDS | {"max_position_embeddings": 64}
    ),
    "altclip": lambda: tf.AltCLIPConfig(
        vision_config=IMAGE, text_config=WORDS | {"project_dim": 32, "pad_token_id": 1}, projection_dim=24
    ),
    "chinese_clip": lambda: tf.ChineseCLIPConfig(
        vision_config=IMAGE, text_config=WORDS | {"pad_token_id": 1}, projection_dim=24
    ),
    "metaclip_2": lambda: tf.MetaClip2Config(
        vision_config=IMAGE, text_config=WORDS | {"eos_token_id": 2, "pad_token_id": 1}, projection_dim=24
    ),
}
NEW = [kind for kind in SPEAKERS if kind != "clip"]
TEXTS = ["cat", "a dog"]


def model_of(kind: str) -> Any:
    torch.manual_seed(0)
    model = getattr(tf, SPEAKERS[kind].about["class"])(CONFIGS[kind]())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def tokenize(texts: list[str], length: int = 20) -> torch.Tensor:
    rows = [[LETTERS.get(letter, 3) for letter in text][: length - 1] for text in texts]
    return torch.tensor([row + [2] + [1] * (length - 1 - len(row)) for row in rows])


def save_tokenizer(folder: Path) -> None:
    """A tokenizer of letters: unknown 3, end 2, padding 1."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, **LETTERS}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tf.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def features(out: Any) -> torch.Tensor:
    return out if isinstance(out, torch.Tensor) else out.pooler_output


def own_embedding(kind: str, model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """transformers' own, at any size."""
    if kind != "siglip2":
        return features(model.get_image_features(pixel_values=pixels, interpolate_pos_encoding=True))
    b, _, h, w = pixels.shape
    x = pixels.reshape(b, 3, h // 16, 16, w // 16, 16).permute(0, 2, 4, 3, 5, 1).reshape(b, -1, 16 * 16 * 3)
    shapes = torch.tensor([[h // 16, w // 16]] * b)
    mask = torch.ones(x.shape[:2], dtype=torch.long)
    return features(model.get_image_features(pixel_values=x, pixel_attention_mask=mask, spatial_shapes=shapes))


@torch.no_grad()
@pytest.mark.parametrize("kind", NEW)
def test_embeddings_are_transformers_own_at_any_size(kind):
    model = model_of(kind)
    backbone = wrap(model, tokenizer=tokenize, name="mine")
    assert backbone.native_grid == (4, 4) and backbone.patch_size == 16
    for size in ((64, 64), (48, 80)):
        pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
        want = own_embedding(kind, model, pixels)
        torch.testing.assert_close(backbone.embed(pixels), want, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(backbone.embed(pixels[1:]), want[1:], atol=1e-5, rtol=1e-4)
    mask = (tokenize(TEXTS) != 1).long() if SPEAKERS[kind].about["mask"] else None
    words = features(model.get_text_features(input_ids=tokenize(TEXTS), attention_mask=mask))
    want = torch.nn.functional.normalize(words, dim=-1)
    torch.testing.assert_close(backbone.embed_text(TEXTS), want, atol=1e-5, rtol=1e-5)
    tokens = backbone.encode(pixels, attention_blocks=2, keep_layers=(0,))
    assert tokens.attention.shape == (2, 15, 15) and tokens.layers[0].shape == (2, 15, 48)
    assert isinstance(backbone.last_block, LastBlockWeights) == (not kind.startswith("siglip"))
    assert (backbone.logit_bias is not None) == kind.startswith("siglip")


@torch.no_grad()
@pytest.mark.parametrize("kind", NEW)
def test_a_folder_of_every_kind(kind, tmp_path):
    model = model_of(kind)
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    backbone = load_backbone(f"local-dir:{tmp_path}", device="cpu", dtype="float32", offline=True)
    pixels = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(backbone.embed(pixels), own_embedding(kind, model, pixels), atol=1e-5, rtol=1e-4)
    ids = backbone.tokenizer(TEXTS)
    assert ids.shape == (2, SPEAKERS[kind].about["context"]) and ids[0, 0] == LETTERS["c"]
    assert backbone.embed_text(TEXTS).shape == (2, backbone.embed_dim)
    assert (backbone.mean == (0.5, 0.5, 0.5)) == kind.startswith("siglip")


def test_what_is_missing_is_said(tmp_path):
    model = model_of("siglip")
    with pytest.raises(UnsupportedBackbone, match=r"SiglipModel needs its tokenizer.*tokenizer="):
        wrap(model)
    model.save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="no tokenizer"):
        load_backbone(f"local-dir:{tmp_path}", offline=True)
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(UnsupportedBackbone, match=r"'dinov2'.*clip, siglip, siglip2.*--features"):
        load_backbone(f"local-dir:{tmp_path}", offline=True)


def test_every_kind_can_be_wrapped():
    assert {f"transformers.{entry.about['class']}" for entry in SPEAKERS.values()} <= set(MODELS)
    assert set(CONFIGS) == set(SPEAKERS)
