"""Every recorded CLIP-ES stage, end to end and from the stored input of the stage."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from conftest import golden_cases

from clipseg_ws.activations.gradcam import gradcam_and_probabilities, min_max, probability_gradient
from clipseg_ws.activations.gradient import mean_gradient, pooled_gradient
from clipseg_ws.activations.last_block import forward_last_block, pool_embedding
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.refine.affinity import apply_affinity, box_mask, class_aware_affinity

CASES = golden_cases("clip_es")


def build_tower(golden):
    """The recorded tower inside an open_clip.CLIP with a tiny text tower."""
    import open_clip

    model = open_clip.model.CLIP(
        embed_dim=64,
        vision_cfg={"image_size": 64, "layers": 12, "width": 128, "head_width": 64, "patch_size": 16},
        text_cfg={"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1},
        quick_gelu=True,
    )
    model.visual.load_state_dict(golden("tower"), strict=True)
    model.logit_scale.data.fill_(float(torch.tensor(100.0).log()))
    return model


@pytest.fixture(scope="module")
def tower(golden):
    return OpenClipBackbone(build_tower(golden), position_interpolation="bilinear")


def assert_close(name: str, got: torch.Tensor, case: dict, entry: dict) -> None:
    """Compare one tensor by the rule and tolerance of the manifest."""
    rule = entry["tensors"][name]["tolerance"]
    want = case[name].float()
    got = got.float().reshape(want.shape)
    if rule["rule"] == "exact":
        assert torch.equal(got, want), name
    elif rule["rule"] == "max_abs":
        assert (got - want).abs().max() <= rule["value"], (name, float((got - want).abs().max()))
    elif rule["rule"] == "max_abs_relative_to_the_largest_absolute_value_of_the_class":
        flat = (got - want).flatten(1).abs().amax(1) / want.flatten(1).abs().amax(1)
        assert flat.max() <= rule["value"], (name, flat)
    elif rule["rule"] == "fraction_of_equal_elements_at_least":
        assert (got == want).float().mean() >= rule["value"], name
    else:
        raise AssertionError(f"{name}: no comparison for rule {rule}")


@pytest.mark.parametrize("name", CASES)
def test_backbone_stages(name, tower, golden, golden_manifest):
    case, entry = golden(name), golden_manifest[name]
    tokens = tower.encode(case["pixels"], attention_blocks=8)
    assert_close("tokens_in_last", tokens.last_input, case, entry)
    assert_close("ln1_last", tower.last_block.ln_1(tokens.last_input), case, entry)
    assert_close("attn_mean", tokens.attention[0], case, entry)
    last8 = [tower.encode(case["pixels"], attention_blocks=k).attention[0] * k for k in range(9) if k]
    single = [last8[0], *[b - a for a, b in pairwise(last8)]]
    assert_close("attn_last8", torch.stack(single[::-1]), case, entry)


@pytest.mark.parametrize("name", CASES)
def test_gradient_and_cam(name, tower, golden, golden_manifest):
    case, entry = golden(name), golden_manifest[name]
    tokens = tower.encode(case["pixels"])
    text = case["text"]
    count = len(case["label_ids"])
    targets = torch.arange(count)[None]
    maps, probs = gradcam_and_probabilities(tower, tokens, text, targets, logit_scale=100.0)
    assert_close("probs", probs, case, entry)
    assert_close("cam", maps[0], case, entry)

    block = forward_last_block(tower, tokens.last_input)
    feature = pool_embedding(tower, block.out, "patch")
    assert_close("image_feature", feature, case, entry)
    d_feature = probability_gradient(feature, probs, text, targets, 100.0)
    weights = mean_gradient(tower, block, pooled_gradient(tower, block, d_feature, "patch"))[:, 0]
    assert_close("channel_weights", weights, case, entry)
    signed = torch.einsum("kd,nd->kn", weights, block.attention.a[0, 1:])
    assert_close("cam_signed", signed, case, entry)
    assert_close("cam_raw", signed.clamp_min(0), case, entry)
    stored = case["cam_raw"].flatten(1)
    assert_close("cam", min_max(min_max(stored)), case, entry)


@pytest.mark.parametrize("name", CASES)
def test_full_gradient_by_autograd(name, tower, golden, golden_manifest):
    """The pieces of the last block are differentiable and give the recorded per-patch gradients."""
    case, entry = golden(name), golden_manifest[name]
    tokens = tower.encode(case["pixels"])
    a = tower.last_block.ln_1(tokens.last_input).detach().requires_grad_()
    feature = tower.last_block.embed(tower.last_block.forward(tokens.last_input, a)[:, 1:]).mean(1)
    probs = (100 * F.normalize(feature, dim=-1) @ case["text"].t()).softmax(-1)
    count = len(case["label_ids"])
    grads = [torch.autograd.grad(probs[0, k], a, retain_graph=True)[0][0, 1:] for k in range(count)]
    got = torch.stack(grads).transpose(1, 2).unflatten(-1, tokens.grid)  # [K, N, D] -> [K, D, h, w]
    assert_close("grads", got, case, entry)


@pytest.mark.parametrize("name", [*CASES, *golden_cases("affinity")])
def test_affinity_stages(name, golden, golden_manifest):
    case, entry = golden(name), golden_manifest[name]
    attention = case["attn_mean"][None] if "attn_mean" in case else case["attention"][None]
    squared = apply_affinity(attention, torch.eye(attention.shape[-1])[None])
    assert_close("affinity_sq", squared[0], case, entry)
    cams = case["cam"][None]
    for suffix, threshold in (("t04", 0.4), ("t07", 0.7)):
        mask = box_mask(cams, threshold, exclude_last=True)[0]
        assert torch.equal(mask, case[f"boxmask_{suffix}"].float())
        refined = class_aware_affinity(cams, attention, threshold=threshold, exclude_last=True)[0]
        assert_close(f"refined_{suffix}", refined, case, entry)


@pytest.mark.parametrize("name", CASES)
def test_end_to_end(name, tower, golden, golden_manifest):
    case, entry = golden(name), golden_manifest[name]
    tokens = tower.encode(case["pixels"])
    targets = torch.arange(len(case["label_ids"]))[None]
    maps, _ = gradcam_and_probabilities(tower, tokens, case["text"], targets, logit_scale=100.0)
    for suffix, threshold in (("t04", 0.4), ("t07", 0.7)):
        refined = class_aware_affinity(maps, tokens.attention, threshold=threshold, exclude_last=True)
        assert_close(f"refined_{suffix}", refined[0], case, entry)
        if f"refined_resized_{suffix}" in case:
            size = case[f"refined_resized_{suffix}"].shape[-2:]
            assert_close(f"refined_resized_{suffix}", F.interpolate(refined, size, mode="bilinear")[0], case, entry)
