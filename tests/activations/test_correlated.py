"""Attention of other blocks and fused depths, against torch's own attention and their limiting cases."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.activations.correlated import (
    cross_correlation,
    intra_correlation,
    last_blocks,
    middle_blocks,
    needed_layers,
    row_normalised,
)
from clipseg_ws.activations.dense import dense_embeddings, dense_features
from clipseg_ws.activations.fusion import early_fusion_embeddings, two_pass_embeddings


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 48, 80, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def tokens(tiny_backbone, pixels):
    return tiny_backbone.encode(pixels, attention_blocks=3, keep_layers=(0, 1))


def test_block_choices_follow_the_papers_at_twelve_blocks():
    assert middle_blocks(12) == (5, 6, 7, 8)  # blocks 6 to 9 counted from 1
    assert last_blocks(12) == (7, 8, 9, 10, 11)
    assert needed_layers((10, 11), 12) == (9,)
    for depth in range(2, 25):
        assert all(1 <= b < depth for b in (*middle_blocks(depth), *last_blocks(depth)))
    with pytest.raises(ValueError, match="indices 1 to 11"):
        needed_layers((0, 3), 12)


@torch.no_grad()
def test_cross_correlation_is_the_blocks_own_attention_over_patches(tiny_backbone, tokens, pixels):
    """Compared with torch's own multi-head attention of the block, class token's column dropped, rows renormalised."""
    visual = tiny_backbone.model.visual
    x = tiny_backbone.encode(pixels, attention_blocks=0)
    whole = {2: x.last_input}
    blocks = visual.transformer.resblocks
    attn = torch.nn.MultiheadAttention(64, blocks[2].attn.num_heads, batch_first=True)
    attn.load_state_dict({k: v for k, v in blocks[2].attn.state_dict().items() if k in attn.state_dict()})
    normed = blocks[2].ln_1(whole[2])
    _, weights = attn.eval()(normed, normed, normed, need_weights=True, average_attn_weights=False)
    patches = weights[:, :, 1:, 1:]
    expected = (patches / patches.sum(-1, keepdim=True)).mean(1)
    got = cross_correlation(tiny_backbone, x, (2,))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    both = cross_correlation(tiny_backbone, tokens, (1, 2))
    torch.testing.assert_close(both, (cross_correlation(tiny_backbone, tokens, (1,)) + got) / 2, rtol=0, atol=1e-6)


@torch.no_grad()
def test_intra_correlation_rows_add_up_and_layers_must_be_kept(tiny_backbone, tokens, pixels):
    attention = intra_correlation(tiny_backbone, tokens)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 15), rtol=0, atol=1e-5)
    alone = intra_correlation(tiny_backbone, tiny_backbone.encode(pixels[1:2], keep_layers=(0,), attention_blocks=0))
    assert (alone[0] - attention[1]).abs().max() < 1e-5
    with pytest.raises(ValueError, match="keep_layers"):
        intra_correlation(tiny_backbone, tiny_backbone.encode(pixels[:1]))


@torch.no_grad()
def test_mixing_reaches_from_own_attention_to_the_given_one(tiny_backbone, tokens):
    own = dense_features(tiny_backbone, tokens, "clearclip")
    identity = torch.eye(15).expand(3, 15, 15)
    torch.testing.assert_close(dense_features(tiny_backbone, tokens, "clearclip", mix=identity, mix_weight=0.0), own)
    value_only = dense_features(tiny_backbone, tokens, "clearclip", mix=identity, mix_weight=1.0)
    torch.testing.assert_close(value_only, dense_features(tiny_backbone, tokens, "maskclip"), rtol=0, atol=1e-5)


@torch.no_grad()
def test_fusions_reduce_to_single_levels(tiny_backbone, tokens, pixels):
    fused = early_fusion_embeddings(tiny_backbone, tokens)
    assert fused.shape == (3, 3, 5, 32)
    alone = early_fusion_embeddings(
        tiny_backbone, tiny_backbone.encode(pixels[:1], attention_blocks=3, keep_layers=(0, 1))
    )
    assert (alone[0] - fused[0]).abs().max() < 1e-5
    with pytest.raises(ValueError, match="attention is missing"):
        early_fusion_embeddings(tiny_backbone, tiny_backbone.encode(pixels[:1], attention_blocks=0, keep_layers=(1,)))
    # the layer entering the last block is the last input itself: both passes are then the same
    twice = two_pass_embeddings(tiny_backbone, tokens, "naclip", layers=(1,))
    torch.testing.assert_close(twice, dense_embeddings(tiny_backbone, tokens, "naclip"), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="kept"):
        two_pass_embeddings(tiny_backbone, tokens, layers=(2,))


def test_row_normalised_keeps_dead_rows_finite():
    attention = torch.tensor([[[1.0, 3.0], [0.0, 0.0]]])
    assert row_normalised(attention).tolist() == [[[0.25, 0.75], [0.0, 0.0]]]
