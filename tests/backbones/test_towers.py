"""Families beyond CLIP's own layout: parity with the library's own forward, positions, batches, attention."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.backbones import UnsupportedBackbone, wrap
from clipseg_ws.backbones.last_block import LastBlockWeights
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.backbones.tower_backbone import TowerBackbone
from clipseg_ws.eval.experiments.small_models import (
    HYBRID,
    LENGTH,
    WORDS,
    random_model,
    small_backbone,
    small_config,
    small_model,
    tokenize,
)

# family -> (a small architecture of it, whether its last block's gradient is taken by hand)
FAMILIES = {
    "siglip": ("ViT-B-32-SigLIP2-256", False),
    "eva02": ("EVA02-B-16", False),
    "pe-core": ("PE-Core-T-16-384", False),
    "mobileclip": ("MobileCLIP2-B", True),
    "vitamin": ("ViTamin-S", False),
    "coca": ("coca_ViT-B-32", False),
    "clipa": ("ViT-L-14-CLIPA", True),
    "hybrid": (HYBRID, True),
}
SLOW = {
    "metaclip2": ("ViT-H-14-worldwide-quickgelu", True),
    "eva01": ("EVA01-g-14", True),
    "eva02-e": ("EVA02-E-14", False),
    "siglip-so400m": ("ViT-SO400M-14-SigLIP-384", False),
    "pe-core-g": ("PE-Core-bigG-14-448", False),
    "vitamin-xl": ("ViTamin-XL-256", False),
    "pe-core-b": ("PE-Core-B-16", False),
    "mobileclip-l": ("MobileCLIP2-L-14", True),
}
TEXTS = ["a photo of a cat.", "grass"]
ALL = [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


def architecture(family: str) -> str:
    return (FAMILIES | SLOW)[family][0]


def pixels_of(backbone: Backbone, h: int, w: int, batch: int = 2) -> torch.Tensor:
    p = backbone.patch_size
    return torch.randn(batch, 3, h * p, w * p, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("family", ALL)
def test_embeddings_are_the_librarys_own(family):
    model, backbone = small_model(architecture(family)), small_backbone(architecture(family))
    pixels = pixels_of(backbone, *backbone.native_grid, batch=1)
    want = model.encode_image(pixels, normalize=False)
    scale = float(want.abs().max())
    torch.testing.assert_close(backbone.embed(pixels), want, atol=1e-5 * scale, rtol=1e-5)
    words = model.encode_text(tokenize(TEXTS), normalize=True)
    torch.testing.assert_close(backbone.embed_text(TEXTS), words, atol=1e-5, rtol=1e-5)
    assert isinstance(backbone.last_block, LastBlockWeights) == (FAMILIES | SLOW)[family][1]


@torch.no_grad()
@pytest.mark.parametrize("family", ["siglip", "eva02", "pe-core", "vitamin"])
def test_interpolated_positions_are_timms_own(family):
    """timm's trunk with ``dynamic_img_size`` on a grid that is neither native nor square."""
    cfg = small_config(architecture(family))
    model, backbone = small_model(architecture(family)), small_backbone(architecture(family))
    free = random_model(cfg, family)
    trunk = free.visual.trunk
    trunk.dynamic_img_size = True
    trunk.patch_embed.img_size = None  # any size
    trunk.patch_embed.flatten, trunk.patch_embed.output_fmt = False, _nhwc()
    if getattr(trunk, "rope", None) is not None:
        trunk.rope._use_cached_embed = False
    if hasattr(trunk.patch_embed, "backbone"):
        trunk.patch_embed.forward = lambda x, own=trunk.patch_embed: own.proj(own.backbone(x)).permute(0, 2, 3, 1)
    pixels = pixels_of(backbone, 3, 5)
    trunk.patch_embed.dynamic_img_pad = False
    want = free.encode_image(pixels, normalize=False)
    torch.testing.assert_close(backbone.embed(pixels), want, atol=1e-5 * float(want.abs().max()), rtol=1e-5)
    assert model is not free


def _nhwc():
    from timm.layers.format import Format

    return Format.NHWC


@torch.no_grad()
@pytest.mark.parametrize("family", ALL)
def test_tokens_of_any_grid_and_batch(family):
    backbone = small_backbone(architecture(family))
    pixels = pixels_of(backbone, 2, 3)
    tokens = backbone.encode(pixels, attention_blocks=2, keep_layers=(0,))
    assert tokens.grid == (2, 3) and tokens.last_input.shape == (2, 7, backbone.width)
    assert tokens.attention.shape == (2, 6, 6) and tokens.attention.min() >= 0
    rows = tokens.attention.sum(-1)
    classes = backbone.last_block.class_token
    assert rows.max() <= 1 + 1e-5 and (classes or torch.allclose(rows, torch.ones(2, 6), atol=1e-5))
    assert tokens.layers[0].shape == (2, 6, backbone.width)
    alone = backbone.encode(pixels[1:], attention_blocks=2, keep_layers=(0,))
    scale = float(tokens.last_input.abs().max())
    for one, both in (
        (alone.last_input, tokens.last_input), (alone.attention, tokens.attention), (alone.layers[0], tokens.layers[0])
    ):  # fmt: skip
        torch.testing.assert_close(one[0], both[1], atol=1e-5 * scale, rtol=1e-4)
    bare = backbone.encode(pixels, attention_blocks=0)
    torch.testing.assert_close(bare.last_input, tokens.last_input, atol=1e-4 * scale, rtol=1e-4)
    assert bare.attention is None


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_block_is_the_librarys_own(family):
    """Piece by piece the same as in one go, and every block's q, k, v those of the last block where it is the last."""
    backbone = small_backbone(architecture(family))
    tokens, last = backbone.encode(pixels_of(backbone, 2, 3), attention_blocks=1), backbone.last_block
    whole = last.forward(tokens.last_input, None, tokens.grid)
    pieces = last.mlp(tokens.last_input + last.project(tokens.last.context))
    torch.testing.assert_close(pieces[:, 1:], whole[:, 1:], atol=1e-4, rtol=1e-4)
    mine = last.qkv(last.ln_1(tokens.last_input), tokens.grid)
    for left, right in zip(mine, backbone.block_qkv(1, tokens.last_input, tokens.grid), strict=True):
        assert torch.equal(left, right)
    assert last.embed(whole[:, 1:]).shape == (2, 6, backbone.embed_dim)


def test_sigmoid_models_keep_scale_and_bias():
    siglip, eva = small_backbone("ViT-B-32-SigLIP2-256"), small_backbone("EVA02-B-16")
    assert siglip.logit_bias == pytest.approx(float(small_model("ViT-B-32-SigLIP2-256").logit_bias))
    assert siglip.logit_scale == pytest.approx(float(small_model("ViT-B-32-SigLIP2-256").logit_scale.exp()))
    assert eva.logit_bias is None


@torch.no_grad()
def test_half_precision_and_other_positions():
    backbone = wrap(random_model(small_config("PE-Core-T-16-384"), "pe"), tokenizer=tokenize)
    pixels, name = pixels_of(backbone, 2, 3), backbone.weights_sha256
    whole = backbone.encode(pixels).last_input
    twin = backbone.with_positions("bilinear")
    assert not torch.equal(twin.encode(pixels).last_input, whole)
    backbone.place(torch.device("cpu"), torch.bfloat16)
    half = backbone.encode(pixels).last_input
    assert half.dtype == torch.bfloat16 and backbone.weights_sha256 == name
    assert (half.float() - whole).norm() < 0.1 * whole.norm()
    assert backbone.embed_text(TEXTS).dtype == torch.float32


def test_compile_says_that_it_has_no_effect(recwarn):
    backbone = small_backbone("ViT-L-14-CLIPA")
    backbone.with_positions("bicubic")
    assert not [w for w in recwarn if "compile" in str(w.message)]
    with pytest.warns(UserWarning, match="compile=true has no effect for custom"):
        backbone.with_positions("bicubic", compile=True)


def test_which_class_reads_what():
    assert isinstance(small_backbone("ViT-B-32"), OpenClipBackbone)  # CLIP's layout, whatever the words
    assert isinstance(small_backbone("ViT-L-14-CLIPA"), TowerBackbone)


@pytest.mark.parametrize(("trunk", "words"), [("convnext_atto", "ConvNeXt"), ("vit_base_patch14_reg4_dinov2", "5 tok")])
def test_trunks_without_a_grid_of_patches(trunk, words):
    cfg = small_config("EVA02-B-16")
    cfg["vision_cfg"] |= {"timm_model_name": trunk, "timm_pool": "", "timm_proj": "linear"}
    with torch.device("meta"):
        from open_clip.model import CustomTextCLIP

        model = CustomTextCLIP(cfg["embed_dim"], cfg["vision_cfg"], cfg["text_cfg"])
    with pytest.raises(UnsupportedBackbone, match=words):
        wrap(model, tokenizer=tokenize)


def test_shapes_of_the_short_texts():
    ids = tokenize(TEXTS)
    assert ids.shape == (2, LENGTH) and int(ids.max()) < WORDS
