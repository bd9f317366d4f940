"""The hand-written mean gradient against autograd, for both poolings, both activations and a layer scale."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_clip

from clipseg_ws.activations.gradcam import softmax_gradcam
from clipseg_ws.activations.gradient import LANES, mean_gradient, pooled_gradient
from clipseg_ws.activations.last_block import forward_last_block
from clipseg_ws.backbones.openclip import OpenClipBackbone


def autograd_weights(backbone, tokens, text, targets, scale, pool):
    """[K, B, D] mean over patches of d prob / d a by plain autograd, one backward per class and image."""
    a = backbone.last_block.ln_1(tokens.last_input).detach().requires_grad_()
    out = backbone.last_block.forward(tokens.last_input, a)
    feature = backbone.last_block.embed(out[:, 0]) if pool == "cls" else backbone.last_block.embed(out[:, 1:]).mean(1)
    probs = (scale * F.normalize(feature, dim=-1) @ text.t()).softmax(-1)
    lanes = []
    for k in range(targets.shape[1]):
        picked = sum(probs[b, targets[b, k]] for b in range(len(targets)) if targets[b, k] >= 0)
        (grad,) = torch.autograd.grad(picked, a, retain_graph=True)
        lanes.append(grad[:, 1:].mean(1))
    return torch.stack(lanes)


@pytest.mark.parametrize("pool", ["patch", "cls"])
@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("layer_scale", [None, 0.3])
def test_equals_autograd(pool, quick_gelu, layer_scale):
    model = tiny_clip(quick_gelu=quick_gelu)
    if layer_scale:
        from open_clip.transformer import LayerScale

        model.visual.transformer.resblocks[-1].ls_1 = LayerScale(64, layer_scale)
        model.visual.transformer.resblocks[-1].ls_2 = LayerScale(64, layer_scale * 2)
    backbone = OpenClipBackbone(model)
    torch.manual_seed(1)
    tokens = backbone.encode(torch.randn(2, 3, 48, 80))
    text = F.normalize(torch.randn(6, 32), dim=-1)
    targets = torch.tensor([[0, 3, 5], [4, 1, -1]])
    want = autograd_weights(backbone, tokens, text, targets, 10.0, pool)

    from clipseg_ws.activations.gradcam import gradcam_and_probabilities, probability_gradient
    from clipseg_ws.activations.last_block import pool_embedding

    maps, probs = gradcam_and_probabilities(backbone, tokens, text, targets, logit_scale=10.0, pool=pool)
    block = forward_last_block(backbone, tokens.last_input)
    feature = pool_embedding(backbone, block.out, pool)
    d_feature = probability_gradient(feature, probs, text, targets, 10.0)
    got = mean_gradient(backbone, block, pooled_gradient(backbone, block, d_feature, pool))
    assert torch.allclose(got, want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))
    assert want.abs().max() > 0

    signed = torch.einsum("kbd,bnd->bkn", want, backbone.last_block.ln_1(tokens.last_input)[:, 1:]).clamp_min(0)
    for _ in range(2):  # as CLIP-ES does
        signed = signed - signed.amin(-1, keepdim=True)
        signed = signed / (signed.amax(-1, keepdim=True) + 1e-7)
    assert (maps - signed.unflatten(-1, tokens.grid)).abs().max() < 2e-5
    assert maps[1, 2].abs().max() == 0  # padding


@pytest.mark.parametrize("pool", ["patch", "cls"])
def test_pooled_gradient_equals_autograd(pool):
    backbone = OpenClipBackbone(tiny_clip())
    torch.manual_seed(0)
    torch.nn.init.normal_(backbone.visual.ln_post.weight)
    block = forward_last_block(backbone, backbone.encode(torch.randn(2, 3, 48, 80)).last_input)
    d_embedding = torch.randn(3, 2, 32)
    out = block.out.clone().requires_grad_()
    pooled = backbone.last_block.embed(out[:, :1] if pool == "cls" else out[:, 1:]).mean(1)
    want = torch.stack([torch.autograd.grad(pooled, out, d, retain_graph=True)[0] for d in d_embedding])
    got = pooled_gradient(backbone, block, d_embedding, pool)
    rows = slice(0, 1) if pool == "cls" else slice(1, 16)
    assert got.first == rows.start
    assert torch.allclose(got.expand(), want[:, :, rows], atol=1e-5)


def test_lanes_do_not_change_the_gradient(tiny_backbone):
    """More classes than go back together, and the same classes one by one."""
    torch.manual_seed(4)
    block = forward_last_block(tiny_backbone, tiny_backbone.encode(torch.randn(2, 3, 48, 80)).last_input)
    d_embedding = torch.randn(LANES + 3, 2, 32)
    together = mean_gradient(tiny_backbone, block, pooled_gradient(tiny_backbone, block, d_embedding, "patch"))
    alone = [
        mean_gradient(tiny_backbone, block, pooled_gradient(tiny_backbone, block, d[None], "patch"))
        for d in d_embedding
    ]
    assert torch.allclose(together, torch.cat(alone), rtol=1e-4, atol=1e-6)


def test_competitors_are_the_softmax(tiny_backbone):
    """Leaving texts out by mask equals leaving them out of the list; a target competes even if the mask forgets it."""
    torch.manual_seed(2)
    tokens = tiny_backbone.encode(torch.randn(2, 3, 48, 80))
    text = F.normalize(torch.randn(5, 32), dim=-1)
    mask = torch.tensor([[True, False, True, False, True], [True, False, False, False, True]])
    got = softmax_gradcam(tiny_backbone, tokens, text, torch.tensor([[0, 2], [0, 2]]), competitors=mask)
    want = softmax_gradcam(tiny_backbone, tokens, text[[0, 2, 4]], torch.tensor([[0, 1], [0, 1]]))
    assert torch.allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(
    ("targets", "pool", "message"),
    [([[0, 9]], "patch", "rows of text"), ([0, 1], "patch", r"\[B, K\]"), ([[0]], "max", "pool='max'")],
)
def test_errors(tiny_backbone, targets, pool, message):
    tokens = tiny_backbone.encode(torch.randn(1, 3, 32, 32))
    with pytest.raises(ValueError, match=message):
        softmax_gradcam(tiny_backbone, tokens, torch.eye(32)[:5], torch.tensor(targets), pool=pool)


def test_batch_of_eight_equals_alone(tiny_backbone):
    torch.manual_seed(3)
    pixels = torch.randn(8, 3, 48, 80)
    text = F.normalize(torch.randn(6, 32), dim=-1)
    targets = torch.randint(0, 6, (8, 3))
    together = softmax_gradcam(tiny_backbone, tiny_backbone.encode(pixels), text, targets)
    for i in (0, 3, 7):
        alone = softmax_gradcam(tiny_backbone, tiny_backbone.encode(pixels[i : i + 1]), text, targets[i : i + 1])
        assert (together[i] - alone[0]).abs().max() < 1e-4
