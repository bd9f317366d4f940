"""The walk against open_clip's own forward, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_clip

from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.backbones.positions import positions
from clipseg_ws.text.embeddings import embed_vocabulary
from clipseg_ws.text.vocabulary import parse_classes


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_class_embedding_equals_the_library(quick_gelu):
    model = tiny_clip(quick_gelu=quick_gelu)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        want = model.encode_image(pixels)
    assert (OpenClipBackbone(model).embed(pixels) - want).abs().max() < 1e-5


def test_tokens_equal_forward_intermediates(tiny_backbone):
    pixels = torch.randn(2, 3, 64, 64)
    want = tiny_backbone.visual.forward_intermediates(pixels, output_fmt="NLC", intermediates_only=True)
    tokens = tiny_backbone.encode(pixels, keep_layers=(0, 1), attention_blocks=2)
    for index in (0, 1):
        assert torch.allclose(tokens.layers[index], want["image_intermediates"][index], atol=1e-5)
    last = tiny_backbone.last_block.forward(tokens.last_input)
    assert torch.allclose(last[:, 1:], want["image_intermediates"][2], atol=1e-5)


@pytest.mark.parametrize("mode", ["bicubic", "bilinear", "bicubic-offset"])
def test_any_size_and_batch_invariance(mode):
    backbone = OpenClipBackbone(tiny_clip(), position_interpolation=mode)
    pixels = torch.randn(2, 3, 48, 112)
    tokens = backbone.encode(pixels, attention_blocks=3)
    assert tokens.grid == (3, 7) and tokens.last_input.shape == (2, 22, 64) and tokens.attention.shape == (2, 21, 21)
    alone = backbone.encode(pixels[1:], attention_blocks=3)
    assert torch.allclose(tokens.last_input[1:], alone.last_input, atol=1e-4)
    assert torch.allclose(tokens.attention[1:], alone.attention, atol=1e-5)
    assert tokens.attention.sum(-1).max() < 1  # the class token's share is left out, not renormalised


def test_same_number_of_patches_on_another_grid_is_interpolated():
    """16 patches as 2x8 are not the native 4x4: the references use the table as it is there, and are wrong."""
    table = torch.randn(17, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(positions(table, (4, 4), (4, 4), "bicubic-offset"), table)
    assert not torch.allclose(positions(table, (4, 4), (2, 8), "bicubic-offset"), table)


def test_text_is_unit_and_needs_texts(tiny_backbone):
    vectors = tiny_backbone.embed_text(["a cat", "a dog", "a cat"], batch_size=2)
    assert vectors.shape == (3, 32) and torch.allclose(vectors.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert torch.allclose(vectors[0], vectors[2], atol=1e-6)
    with pytest.raises(ValueError, match="no texts"):
        tiny_backbone.embed_text([])


@pytest.mark.parametrize(
    ("shape", "kwargs", "message"),
    [
        ((1, 3, 40, 64), {}, "multiples of the patch size 16"),
        ((3, 64, 64), {}, "multiples of the patch size 16"),
        ((1, 3, 64, 64), {"attention_blocks": -1}, r"0 \(none\) to 3"),
        ((1, 3, 64, 64), {"keep_layers": (2,)}, "0 to 1"),
    ],
)
def test_errors(tiny_backbone, shape, kwargs, message):
    with pytest.raises(ValueError, match=message):
        tiny_backbone.encode(torch.zeros(shape), **kwargs)


def test_unknown_interpolation_and_wrong_towers():
    import open_clip

    with pytest.raises(ValueError, match="bicubic-offset"):
        OpenClipBackbone(tiny_clip(), position_interpolation="nearest")
    resnet = open_clip.model.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 64, "layers": (1, 1, 1, 1), "width": 32, "patch_size": None},
        text_cfg={"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1},
    )
    with pytest.raises(ValueError, match="ModifiedResNet"):
        OpenClipBackbone(resnet)
    normed = open_clip.model.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "qk_norm": True},
        text_cfg={"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1},
    )
    with pytest.raises(ValueError, match="normalised, cosine or scaled"):
        OpenClipBackbone(normed)


def test_custom_block_class_is_walked_too():
    import open_clip

    model = open_clip.model.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 64, "layers": 2, "width": 64, "patch_size": 16, "block_type": "custom"},
        text_cfg={"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1},
    ).eval()
    assert type(model.visual.transformer.resblocks[0]).__name__ == "CustomResidualAttentionBlock"
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        want = model.encode_image(pixels)
    assert (OpenClipBackbone(model).embed(pixels) - want).abs().max() < 1e-5


def test_weights_hash_follows_the_weights():
    one, two = OpenClipBackbone(tiny_clip()), OpenClipBackbone(tiny_clip())
    assert one.weights_sha256 == two.weights_sha256
    changed = tiny_clip()
    changed.visual.proj.data[0, 0] += 1
    assert OpenClipBackbone(changed).weights_sha256 != one.weights_sha256


def test_bfloat16_runs(tiny_backbone):
    model = tiny_clip()
    model.visual.to(torch.bfloat16)
    backbone = OpenClipBackbone(model)
    tokens = backbone.encode(torch.randn(2, 3, 48, 80))
    assert tokens.last_input.dtype == torch.bfloat16 and tokens.attention.dtype == torch.float32


def test_another_activation_is_another_model(tmp_path):
    """The name of the weights is the key of the text cache, of banks and of heads."""
    quick, plain = OpenClipBackbone(tiny_clip(quick_gelu=True)), OpenClipBackbone(tiny_clip(quick_gelu=False))
    assert quick.weights_sha256 != plain.weights_sha256
    words = parse_classes("cat; dog", background=())
    fresh = embed_vocabulary(words, plain.embed_text).vectors
    embed_vocabulary(words, quick.embed_text, weights_key=quick.weights_sha256, cache_dir=tmp_path)
    again = embed_vocabulary(words, plain.embed_text, weights_key=plain.weights_sha256, cache_dir=tmp_path)
    assert torch.allclose(again.vectors, fresh, atol=1e-6)
