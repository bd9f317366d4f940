"""Texts cut at their end token give what the library gives for all 77 tokens."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F

from clipseg_ws.backbones import wrap
from clipseg_ws.backbones.short_texts import causal_tower

TEXTS = ["a cat", "a photo of a large brown dog on a chair.", "x", "a photo of " + "very " * 30 + "old bus", "a cat"]
VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


def built(custom: bool = False, **text: Any) -> Any:
    torch.manual_seed(0)
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    return kind(24, VISION, TEXT | text).eval()


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("text", [{}, {"pool_type": "eos", "eos_id": 49407}, {"proj_bias": True}])
def test_the_same_as_the_library(custom: bool, text: dict[str, Any]) -> None:
    model = built(custom, **text)
    assert causal_tower(model) is not None
    with torch.no_grad():
        expected = F.normalize(model.encode_text(open_clip.get_tokenizer("ViT-B-16")(TEXTS)), dim=-1)
    got = wrap(model).embed_text(TEXTS, batch_size=2)
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=0)
    assert torch.equal(got[0], got[4]) or torch.allclose(got[0], got[4], atol=1e-6)


@pytest.mark.parametrize("text", [{"no_causal_mask": True}, {"pool_type": "last"}, {"embed_cls": True}])
def test_other_towers_read_everything(text: dict[str, Any]) -> None:
    model = built(True, **text)
    assert causal_tower(model) is None
    with torch.no_grad():
        expected = F.normalize(model.encode_text(open_clip.get_tokenizer("ViT-B-16")(TEXTS)), dim=-1)
    torch.testing.assert_close(wrap(model).embed_text(TEXTS, batch_size=2), expected, atol=2e-6, rtol=0)


def test_only_the_longest_prompt_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built()
    seen: list[int] = []
    inner = model.transformer.forward
    monkeypatch.setattr(model.transformer, "forward", lambda x, **k: seen.append(x.shape[1]) or inner(x, **k))
    wrap(model).embed_text(["a cat", "a dog in a house", "a cat"], batch_size=2)
    assert seen == [4, 7]
