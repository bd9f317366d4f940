"""The modules that stand in for open_clip's and timm's have their names, digests and numbers, bit for bit."""

from __future__ import annotations

import sys

import open_clip
import pytest
import torch

from clipseg_ws.backbones import wrap
from clipseg_ws.backbones.common import weights_digest
from clipseg_ws.backbones.efficientnet import EfficientNetLite
from clipseg_ws.backbones.layout import build_clip
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.backbones.plain_clip import PlainClip, is_plain
from clipseg_ws.backbones.words import clip_tokenizer_module, tokenize

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16}


def config(quick: bool) -> dict[str, object]:
    return {"embed_dim": 24, "quick_gelu": quick, "vision_cfg": VISION, "text_cfg": TEXT}


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(0.1 * torch.rand_like(value))
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("quick", [False, True])
def test_clip_is_open_clips(quick: bool) -> None:
    torch.manual_seed(0)
    theirs = shaken(open_clip.CLIP(**config(quick)))
    mine = build_clip(config(quick), theirs.state_dict(), "here")
    assert isinstance(mine, PlainClip) and list(mine.state_dict()) == list(theirs.state_dict())
    assert weights_digest(mine) == weights_digest(theirs)
    pixels, ids = torch.randn(2, 3, 64, 64), open_clip.tokenize(["a cat", "a dog in a large house"])
    assert torch.equal(mine.encode_image(pixels), theirs.encode_image(pixels))
    assert torch.equal(mine.encode_text(ids), theirs.encode_text(ids))
    mine, theirs = wrap(mine), wrap(theirs)
    assert isinstance(mine, OpenClipBackbone) and torch.equal(mine.embed_text(["a cat"]), theirs.embed_text(["a cat"]))


@pytest.mark.parametrize("other", [{"ls_init_value": 0.1}, {"image_size": [64, 32]}, {"layers": [2, 2, 2, 2]},
                                   {"attentional_pool": True}, {"output_tokens": True}])  # fmt: skip
def test_whatever_else_a_configuration_asks_for_is_left_to_open_clip(other: dict[str, object]) -> None:
    assert is_plain(config(True))
    assert not is_plain(config(True) | {"vision_cfg": VISION | other})
    assert not is_plain(config(True) | {"text_cfg": TEXT | {"pool_type": "eos"}})
    assert not is_plain(config(True) | {"init_logit_bias": -10.0})


@torch.no_grad()
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_efficientnet_is_timms(name: str) -> None:
    from timm import create_model

    torch.manual_seed(0)
    theirs = shaken(create_model(name, pretrained=False, num_classes=0, global_pool=""))
    mine = EfficientNetLite(name).eval()
    mine.load_state_dict(theirs.state_dict())
    for size in ((64, 96), (49, 83)):
        pixels = torch.randn(2, 3, *size)
        assert torch.equal(mine(pixels), theirs.forward_features(pixels))
    mine.train(), theirs.train()  # the statistics that training gathers
    torch.testing.assert_close(mine(pixels), theirs.forward_features(pixels), atol=1e-5, rtol=1e-5)


def test_the_tokenizer_is_open_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a photo of a cat.", "naïve café", "x" * 400]
    theirs = open_clip.tokenize(texts)
    clip_tokenizer_module.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "open_clip"]:
        monkeypatch.delitem(sys.modules, name)
    assert torch.equal(tokenize(texts), theirs) and "open_clip" not in sys.modules
    clip_tokenizer_module.cache_clear()
