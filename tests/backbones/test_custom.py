"""Models with towers of timm and of transformers from folders in open_clip's format: built, filled, tokenized."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_speakers import LETTERS, save_tokenizer

from clipseg_ws.backbones import WeightsNotFound, load_backbone
from clipseg_ws.backbones.custom import empty_model, fill_buffers
from clipseg_ws.backbones.layout import COUNTER, fitting
from clipseg_ws.eval.experiments.small_models import random_model, small_config, tokenize

TEXTS = ["cat", "a dog"]


def pe_core(**text: Any) -> dict[str, Any]:
    """The smallest real configuration of timm's, all blocks, with a small text tower."""
    cfg = small_config("PE-Core-T-16-384")
    cfg["text_cfg"] |= {"width": 32, "heads": 2, "vocab_size": 49408, "context_length": 77, **text}
    return cfg


def save(folder: Path, cfg: dict[str, Any]) -> Any:
    """A random model of the whole configuration in a folder; the model."""
    model = empty_model(cfg, "test", device="cpu").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": {}}))
    return model


@torch.no_grad()
def test_a_folder_with_timms_tower(tmp_path):
    """Built on the meta device, filled from the file: rotary tables and masks of texts are in no file."""
    torch.manual_seed(0)
    cfg = pe_core()
    model = save(tmp_path, cfg)
    backbone = load_backbone(f"local-dir:{tmp_path}", device="cpu", dtype="float32", offline=True)
    pixels = torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(1))
    want = model.encode_image(pixels)
    torch.testing.assert_close(backbone.embed(pixels), want, atol=1e-5 * float(want.abs().max()), rtol=1e-4)
    words = model.encode_text(backbone.tokenizer(TEXTS), normalize=True)
    torch.testing.assert_close(backbone.embed_text(TEXTS), words, atol=1e-5, rtol=1e-5)
    broken = {**cfg, "embed_dim": 500}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": broken, "preprocess_cfg": {}}))
    with pytest.raises(ValueError, match="do not fit the configuration"):
        load_backbone(f"local-dir:{tmp_path}", device="cpu", offline=True)


@pytest.mark.parametrize("kept", [True, False])
def test_counters_of_batch_norms_are_no_weights(kept):
    """MobileCLIP's files hold int64 counters of its convolutional stem, others do not: both fit, counters are 0."""
    model = empty_model(small_config("MobileCLIP2-B"), "test")
    state = {key: value for key, value in model.state_dict().items() if kept or not key.endswith(COUNTER)}
    fitted = fitting(model, state, "file")
    counters = [key for key in fitted if key.endswith(COUNTER)]
    assert counters and all(int(fitted[key]) == 0 for key in counters) and set(fitted) == set(model.state_dict())
    with pytest.raises(ValueError, match=r"no visual.*running_mean"):
        fitting(model, {key: value for key, value in state.items() if not key.endswith("running_mean")}, "file")


def test_a_tokenizer_of_its_own(tmp_path):
    cfg = pe_core(vocab_size=40, context_length=12, hf_tokenizer_name="nobody/nothing-of-the-kind")
    save(tmp_path, cfg)
    with pytest.raises(WeightsNotFound, match=r"tokenizer 'nobody/nothing-of-the-kind' is not on this machine"):
        load_backbone(f"local-dir:{tmp_path}", device="cpu", offline=True)
    save_tokenizer(tmp_path)
    backbone = load_backbone(f"local-dir:{tmp_path}", device="cpu", dtype="float32", offline=True)
    ids = backbone.tokenizer(TEXTS)
    assert ids.shape == (2, 12) and ids[0, 0] == LETTERS["c"]


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["roberta-ViT-B-32", "xlm-roberta-base-ViT-B-32", "nllb-clip-base"])
def test_text_towers_of_transformers(architecture):
    from clipseg_ws.backbones import wrap

    model = random_model(small_config(architecture, width=64), architecture)
    backbone = wrap(model, tokenizer=tokenize)
    want = model.encode_text(tokenize(TEXTS), normalize=True)
    torch.testing.assert_close(backbone.embed_text(TEXTS), want, atol=1e-5, rtol=1e-5)
    side = backbone.native_grid[0] * backbone.patch_size
    pixels = torch.randn(1, 3, side, side)
    torch.testing.assert_close(backbone.embed(pixels), model.encode_image(pixels), atol=1e-5, rtol=1e-4)


def test_buffers_get_the_values_that_building_gives():
    cfg = small_config("PE-Core-T-16-384")
    filled, built = empty_model(cfg, "test"), empty_model(cfg, "test", device="cpu")
    fill_buffers(filled)
    own = dict(built.named_buffers())
    for name, buffer in filled.named_buffers():
        assert not buffer.is_meta and torch.equal(buffer, own[name]), name
