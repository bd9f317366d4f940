"""The head modules: one contract over the registry, attention of OCR by loops, errors."""

from __future__ import annotations

import inspect

import pytest
import torch

from clipseg_ws.heads import HEADS
from clipseg_ws.heads.base import make_head, normalise_tokens
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.file import HeadCard, load_head, save_head
from clipseg_ws.heads.ocr import attend, pool_regions


def small(kind):
    """Options that make a head of the registry small, as far as it has them."""
    return {key: value for key, value in {"hidden": 8, "upsample": 2}.items() if key in HEADS[kind].parameters}


@pytest.mark.parametrize("kind", HEADS)
class TestHead:
    """The contract of every head of the registry: a new line in it is tested here without further edits."""

    def test_entry(self, kind):
        taken = inspect.signature(HEADS[kind].load()).parameters.values()
        defaults = {p.name: p.default for p in taken if p.kind is p.KEYWORD_ONLY}
        assert defaults == HEADS[kind].parameters and HEADS[kind].summary

    def test_shapes_and_gradients(self, kind):
        features = torch.randn(2, 2, 6, 3, 5)
        head = make_head(kind, 2, 6, 4, **small(kind))
        out = head(features)
        scale = small(kind).get("upsample", 1)
        assert out.logits.shape == (2, 4, 3 * scale, 5 * scale)
        assert out.embedding.shape[0] == 2 and out.embedding.shape[-2:] == (3, 5)
        assert out.coarse is None or out.coarse.shape == (2, 4, 3, 5)
        (out.logits.square().sum() + out.logits.sum() + (0 if out.coarse is None else out.coarse.sum())).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())

    def test_weights_hang_on_the_seed_alone(self, kind):
        before = torch.random.get_rng_state()
        head, twin = (make_head(kind, 2, 6, 4, seed=3, **small(kind)) for _ in range(2))
        assert torch.equal(before, torch.random.get_rng_state())
        assert all(torch.equal(a, b) for a, b in zip(head.parameters(), twin.parameters(), strict=True))

    def test_a_picture_alone_equals_in_a_batch(self, kind):
        features, head = torch.randn(3, 2, 6, 4, 5), make_head(kind, 2, 6, 4, **small(kind)).eval()
        assert torch.allclose(head(features).logits[1:2], head(features[1:2]).logits, atol=1e-5)

    def test_file_and_back(self, kind, tmp_path):
        features, head = torch.randn(2, 2, 6, 3, 5), make_head(kind, 2, 6, 3, **small(kind)).eval()
        spec = FeatureSpec(blocks=(0, 1), short_side=64)
        card = HeadCard(("cat", "dog"), "toy", "0" * 64, spec, kind, 6, small(kind), {"steps": 3})
        save_head(tmp_path / "head.safetensors", head, card)
        again, its = load_head(tmp_path / "head.safetensors")
        assert its == card and torch.equal(again(features).logits, head(features).logits)


def test_tokens_are_normalised_block_by_block():
    x = torch.randn(2, 3, 7, 2, 4) * 50 + 3
    y = normalise_tokens(x)
    assert torch.allclose(y.mean(2), torch.zeros(2, 3, 2, 4), atol=1e-4)
    assert torch.allclose(y.var(2, unbiased=False), torch.ones(2, 3, 2, 4), atol=2e-5)


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
    with pytest.raises(ValueError, match="choose one of " + ", ".join(HEADS)):
        make_head("unet", 1, 8, 3)
    with pytest.raises(ValueError, match="did you mean 'decoder'"):
        make_head("decoders", 1, 8, 3)
    with pytest.raises(ValueError, match="has no parameter 'hidden'; its parameters: none"):
        make_head("linear", 1, 8, 3, hidden=4)
    with pytest.raises(ValueError, match=r"mlp\.hidden=2\.5 is float; a whole number"):
        make_head("mlp", 1, 8, 3, hidden=2.5)
    with pytest.raises(ValueError, match="2 labels"):
        make_head("linear", 1, 8, 1)
    with pytest.raises(ValueError, match="kernel odd"):
        make_head("decoder", 1, 8, 3, kernel=2)
    with pytest.raises(ValueError, match=r"\[B, 2, 6, h, w\]"):
        make_head("linear", 2, 6, 3)(torch.zeros(1, 1, 6, 2, 2))
