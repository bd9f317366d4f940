"""What the methods mean for every family: GradCAM by hand and by autograd, dense maps, affinity, the whole way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from clipseg_ws.activations import DENSE_MODES
from clipseg_ws.activations.correlated import cross_correlation
from clipseg_ws.activations.dense import MODES, dense_embeddings, dense_features
from clipseg_ws.activations.gradcam import softmax_gradcam
from clipseg_ws.activations.gradient import autograd_mean_gradient, mean_pooled_gradient
from clipseg_ws.activations.last_block import forward_last_block, pool_embedding
from clipseg_ws.activations.proxy import proxy_embeddings
from clipseg_ws.backbones.last_block import LastBlockWeights
from clipseg_ws.eval.experiments.small_models import HYBRID, small_backbone
from clipseg_ws.refine.affinity import class_aware_affinity

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = {
    "clip": "ViT-B-32",
    "siglip": "ViT-B-32-SigLIP2-256",
    "eva02": "EVA02-B-16",
    "pe-core": "PE-Core-T-16-384",
    "mobileclip": "MobileCLIP2-B",
    "vitamin": "ViTamin-S",
    "coca": "coca_ViT-B-32",
    "clipa": "ViT-L-14-CLIPA",
    "hybrid": HYBRID,
}
HEADS = ("siglip", "pe-core", "coca")  # pooled by attention


def tokens_of(backbone, blocks: int = 2):
    p = backbone.patch_size
    pixels = torch.randn(2, 3, 3 * p, 4 * p, generator=torch.Generator().manual_seed(1))
    return backbone.encode(pixels, attention_blocks=blocks, keep_layers=(0,))


def words(backbone, count: int = 5) -> torch.Tensor:
    vectors = torch.randn(count, backbone.embed_dim, generator=torch.Generator().manual_seed(2))
    return F.normalize(vectors, dim=-1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pool", ["patch", "cls"])
def test_the_gradient_is_that_of_the_probability(family, pool):
    """Against plain autograd from the last block's input norm to the probability, classes one by one."""
    backbone = small_backbone(FAMILIES[family])
    tokens, text, last = tokens_of(backbone), words(backbone), backbone.last_block
    block = forward_last_block(backbone, tokens.last_input, tokens.last, tokens.grid)
    a = block.attention.a.clone().requires_grad_()
    feature = last.pool(last.forward(tokens.last_input, a, tokens.grid), pool)
    torch.testing.assert_close(feature, pool_embedding(backbone, block.out, pool), atol=1e-4, rtol=1e-4)
    probs = (10 * F.normalize(feature, dim=-1) @ text.t()).softmax(-1)
    want = torch.stack(
        [torch.autograd.grad(probs[:, k].sum(), a, retain_graph=True)[0][:, 1:].mean(1) for k in range(3)]
    )
    leaf = feature.detach().requires_grad_()
    own = (10 * F.normalize(leaf, dim=-1) @ text.t()).softmax(-1)
    d = torch.stack([torch.autograd.grad(own[:, k].sum(), leaf, retain_graph=True)[0] for k in range(3)])
    scale = float(want.abs().max())
    for gradient in (mean_pooled_gradient, autograd_mean_gradient):  # by hand where the layout allows, and never
        got = gradient(backbone, block, d, pool)
        assert torch.allclose(got, want, rtol=1e-4, atol=2e-5 * scale) and scale > 0
    by_hand = isinstance(last, LastBlockWeights)
    assert by_hand == (family in ("clip", "mobileclip", "clipa", "hybrid"))


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_of_a_batch_and_alone(family):
    backbone = small_backbone(FAMILIES[family])
    tokens, text, targets = tokens_of(backbone), words(backbone), torch.tensor([[0, 3], [2, -1]])
    maps = softmax_gradcam(backbone, tokens, text, targets)
    assert maps.shape == (2, 2, 3, 4) and maps.min() >= 0 and maps.max() <= 1 and maps[1, 1].abs().max() == 0
    spread = class_aware_affinity(maps, tokens.attention)
    assert spread.shape == maps.shape and spread.isfinite().all()
    if family not in ("clip", "clipa", "mobileclip", "hybrid"):  # the same without what encode kept
        bare = softmax_gradcam(backbone, tokens_of(backbone, 0), text, targets)
        torch.testing.assert_close(bare, maps, atol=2e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_dense_maps_of_every_mode(family):
    backbone = small_backbone(FAMILIES[family])
    tokens = tokens_of(backbone)
    for mode in MODES:
        patches = dense_embeddings(backbone, tokens, mode)
        assert patches.shape == (2, 3, 4, backbone.embed_dim) and patches.isfinite().all()
    mix = torch.full((2, 12, 12), 1 / 12)
    assert dense_embeddings(backbone, tokens, "naclip", mix=mix).isfinite().all()
    assert proxy_embeddings(backbone, tokens, torch.randn(2, 8, 5, 6)).shape == (2, 5, 6, backbone.embed_dim)
    assert cross_correlation(backbone, tokens, (1,)).shape == (2, 12, 12)
    assert "proxy" in DENSE_MODES


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_clip_mode_is_the_block_as_trained(family):
    """Mode "clip" keeps the block: each patch that leaves it, as if it alone were pooled."""
    backbone = small_backbone(FAMILIES[family])
    tokens, last = tokens_of(backbone), backbone.last_block
    want = last.embed(last.forward(tokens.last_input, None, tokens.grid)[:, 1:])
    got = dense_features(backbone, tokens, "clip")
    torch.testing.assert_close(got, want, atol=1e-5 * float(want.abs().max()), rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("family", HEADS)
def test_the_value_path_of_a_pooling_head(family):
    """A sequence of one patch through the library's own head is that patch's dense embedding."""
    backbone = small_backbone(FAMILIES[family])
    rows = torch.randn(3, backbone.width)
    alone = rows[:, None].expand(-1, backbone.tower.class_tokens + 1, -1)  # copies of one token: every weight on it
    want = backbone.tower.pool(alone)
    torch.testing.assert_close(backbone.last_block.embed(rows), want, atol=1e-5 * float(want.abs().max()), rtol=1e-4)


@pytest.mark.parametrize("family", ["siglip", "eva02", "hybrid"])
def test_a_segmenter_with_every_method(family):
    from PIL import Image

    from clipseg_ws import Segmenter

    segment = Segmenter(backbone=small_backbone(FAMILIES[family]), short_side=64)
    picture = Image.effect_noise((96, 64), 80).convert("RGB")
    for method in ("default", "clip-es", "naclip"):
        result = segment.variant(method=method)(picture, classes="cat; sofa", background=["wall"])
        assert result.labels.shape == (64, 96)


@pytest.mark.parametrize("method", ["default", "clip-es", "naclip"])
def test_nan_is_an_error_that_says_so(method):
    from conftest import tiny_clip
    from PIL import Image

    from clipseg_ws import Segmenter
    from clipseg_ws.backbones import wrap

    model = tiny_clip()
    model.visual.transformer.resblocks[-1].mlp.c_proj.bias.data[0] = float("nan")
    model.visual.transformer.resblocks[-1].attn.out_proj.bias.data[0] = float("nan")
    segment = Segmenter(backbone=wrap(model), short_side=64, method=method)
    with pytest.raises(FloatingPointError, match=r"NaN.*dtype='float32'"):
        segment(Image.effect_noise((96, 64), 80).convert("RGB"), classes="cat; sofa", background=["wall"])


def test_the_page_says_what_the_models_do():
    from clipseg_ws.eval.experiments.families_page import page

    written = (ROOT / "docs/families.md").read_text("utf-8")
    assert written == page(ROOT / "eval/results/families.csv"), "run eval.experiments.families_page"


def test_the_table_of_rows_is_of_this_open_clip():
    import csv

    import open_clip

    from clipseg_ws.eval.experiments.families import judge, shares

    with (ROOT / "eval/results/families.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if [row["name"] for row in rows] != ["/".join(pair) for pair in open_clip.list_pretrained()]:
        pytest.skip("another open_clip than the table was made with")
    assert all((row["answer"], row["why"]) == judge(row["name"]) for row in rows)
    vits = [row for row in rows if row["vit"] == "True"]
    loads = [row for row in vits if row["answer"] != "refused"]
    assert len(loads) >= 0.95 * len(vits) and max(float(row["error"]) for row in loads) <= 1e-5
    assert shares([{**row, "vit": row["vit"] == "True"} for row in rows]).startswith(f"{len(loads)} of {len(vits)}")
