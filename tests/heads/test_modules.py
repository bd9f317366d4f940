"""The head modules: shapes, registry, attention of OCR by loops, errors."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.heads import HEADS, make_head
from clipseg_ws.heads.base import normalise_tokens
from clipseg_ws.heads.ocr import attend, pool_regions


@pytest.mark.parametrize("kind", HEADS)
def test_shapes_gradients_and_seeds(kind):
    options = {} if kind == "linear" else {"hidden": 8, "upsample": 2}
    before = torch.random.get_rng_state()
    head = make_head(kind, 2, 6, 4, seed=3, **options)
    assert torch.equal(before, torch.random.get_rng_state())
    twin = make_head(kind, 2, 6, 4, seed=3, **options)
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), twin.parameters(), strict=True))
    features = torch.randn(2, 2, 6, 3, 5)
    out = head(features)
    scale = 1 if kind == "linear" else 2
    assert out.logits.shape == (2, 4, 3 * scale, 5 * scale)
    assert out.embedding.shape[0] == 2 and out.embedding.shape[-2:] == (3, 5)
    assert (out.coarse is not None) == (kind == "ocr")
    (out.logits.square().sum() + out.logits.sum() + (0 if out.coarse is None else out.coarse.sum())).backward()
    assert all(p.grad is not None for p in head.parameters())


def test_a_picture_alone_equals_in_a_batch():
    features = torch.randn(3, 2, 6, 4, 5)
    for kind in HEADS:
        head = make_head(kind, 2, 6, 4).eval()
        assert torch.allclose(head(features).logits[1:2], head(features[1:2]).logits, atol=1e-5)


def test_tokens_are_normalised_block_by_block():
    x = torch.randn(2, 3, 7, 2, 4) * 50 + 3
    y = normalise_tokens(x)
    assert torch.allclose(y.mean(2), torch.zeros(2, 3, 2, 4), atol=1e-4)
    assert torch.allclose(y.var(2, unbiased=False), torch.ones(2, 3, 2, 4), atol=1e-3)


def test_ocr_pooling_and_attention_by_loops():
    x, coarse = torch.randn(2, 4, 2, 3), torch.randn(2, 5, 2, 3)
    regions = pool_regions(x, coarse)
    for b in range(2):
        for k in range(5):
            weight = coarse[b, k].flatten().softmax(0).reshape(2, 3)
            expected = sum(weight[i, j] * x[b, :, i, j] for i in range(2) for j in range(3))
            assert torch.allclose(regions[b, k], expected, atol=1e-5)
    found = attend(x, regions, regions)
    scores = torch.stack([x[1, :, 1, 2] @ regions[1, k] / 2 for k in range(5)]).softmax(0)  # sqrt(4) = 2
    assert torch.allclose(found[1, :, 1, 2], scores @ regions[1], atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="linear, mlp, decoder, ocr"):
        make_head("unet", 1, 8, 3)
    with pytest.raises(ValueError, match="does not take"):
        make_head("linear", 1, 8, 3, hidden=4)
    with pytest.raises(ValueError, match="2 labels"):
        make_head("linear", 1, 8, 1)
    with pytest.raises(ValueError, match="kernel odd"):
        make_head("decoder", 1, 8, 3, kernel=2)
    with pytest.raises(ValueError, match=r"\[B, 2, 6, h, w\]"):
        make_head("linear", 2, 6, 3)(torch.zeros(1, 1, 6, 2, 2))
