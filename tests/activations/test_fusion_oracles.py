"""CLIPer's early fusion, token by token: every kept layer through the value path of the last block."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_clip

from clipseg_ws.activations.dense import value_embeddings
from clipseg_ws.activations.fusion import early_fusion_embeddings
from clipseg_ws.backbones.openclip import OpenClipBackbone


@pytest.fixture(scope="module")
def model():
    return tiny_clip(layers=4)


@torch.no_grad()
def by_hand(model, patches, attention):
    """[N, D] tokens and [N, N] weights -> unit embeddings [N, E] with the modules of open_clip, patch by patch."""
    visual = model.visual
    block = visual.transformer.resblocks[-1]
    width = patches.shape[1]
    weight, bias = block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias[2 * width :]
    values = torch.stack([weight @ block.ln_1(patch) + bias for patch in patches])
    out = []
    for row in attention:
        mixed = sum(share * value for share, value in zip(row, values, strict=True))
        embedded = visual.ln_post(block.attn.out_proj(mixed)) @ visual.proj
        out.append(embedded / embedded.norm())
    return torch.stack(out)


@torch.no_grad()
def test_values_under_a_given_attention(model):
    backbone = OpenClipBackbone(model)
    generator = torch.Generator().manual_seed(0)
    patches, attention = torch.randn(2, 6, 64, generator=generator), torch.rand(2, 6, 6, generator=generator)
    got = value_embeddings(backbone, patches, attention, (2, 3))
    assert got.shape == (2, 2, 3, 32)
    for b in range(2):
        torch.testing.assert_close(got[b].flatten(0, 1), by_hand(model, patches[b], attention[b]))


@torch.no_grad()
def test_early_fusion_is_the_mean_of_unit_vectors(model):
    backbone = OpenClipBackbone(model)
    pixels = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    tokens = backbone.encode(pixels, attention_blocks=4, keep_layers=(1, 2))
    got = early_fusion_embeddings(backbone, tokens)
    for b in range(2):
        attention = tokens.attention[b] / tokens.attention[b].sum(-1, keepdim=True)
        levels = [tokens.layers[1][b], tokens.layers[2][b], tokens.last_input[b, 1:]]
        mean = sum(by_hand(model, level, attention) for level in levels) / 3
        torch.testing.assert_close(got[b].flatten(0, 1), mean / mean.norm(dim=-1, keepdim=True))
