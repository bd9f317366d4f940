"""The support bank: encoding, exactness of its shares, saving and loading, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_ws.activations import layers_needed
from clipseg_ws.activations.featuremaps import feature_maps
from clipseg_ws.activations.prototypes import masked_average_pooling
from clipseg_ws.fewshot.bank import BankError, load_bank
from clipseg_ws.fewshot.encoding import encode_bank
from clipseg_ws.fewshot.supports import SupportError
from clipseg_ws.pictures.images import to_pixels
from clipseg_ws.structures import Support


def example(seed: int, size: tuple[int, int] = (70, 50), label: str | None = "cat") -> Support:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    mask = np.zeros(size[::-1], np.uint8)
    mask[5:30, 10 : 30 + seed] = 1
    mask[30:32, 10:30] = 255
    return Support(Image.fromarray(image), mask, label)


KINDS = ("input", "values", "layer:0")


@pytest.fixture(scope="module")
def bank(tiny_backbone):
    supports = [example(1), example(2, (90, 64), "dog"), example(3), example(4, label=None)]
    return encode_bank(tiny_backbone, supports, kinds=KINDS, batch_size=2)


def test_encoding_equals_one_picture_at_a_time(bank, tiny_backbone):
    assert bank.labels == ("cat", "dog", "object") and bank.shots() == {"cat": 2, "dog": 1, "object": 1}
    support = example(3)
    pixels = to_pixels(support.image, patch_size=16, mean=tiny_backbone.mean, std=tiny_backbone.std)
    tokens = tiny_backbone.encode(pixels[None], keep_layers=layers_needed(KINDS))
    alone = feature_maps(tiny_backbone, tokens, KINDS)
    entry = bank.entries[2]
    assert entry.label == "cat" and entry.foreground.shape == tokens.grid == (4, 5)
    for kind in KINDS:
        assert torch.allclose(entry.features[kind], alone[kind][0], atol=1e-5), kind
    want = masked_average_pooling(alone["input"], torch.from_numpy(support.mask == 1)[None])
    got = masked_average_pooling(entry.features["input"][None], entry.foreground[None])
    assert torch.allclose(got, want, atol=1e-4)  # the stored shares lose nothing
    left_out = 1 - (entry.foreground + entry.background)
    assert left_out.sum() > 0 and left_out.min() > -1e-5  # the ignored pixels


def test_saved_and_loaded(bank, tiny_backbone, tmp_path):
    path = bank.save(tmp_path / "sub" / "things.safetensors")
    assert [f.name for f in path.parent.iterdir()] == ["things.safetensors"]
    again = load_bank(path, tiny_backbone)
    assert again.labels == bank.labels and again.kinds == bank.kinds and again.model == bank.model
    for mine, its in zip(bank.entries, again.entries, strict=True):
        assert all(torch.equal(mine.features[k], its.features[k]) for k in KINDS)
        assert torch.equal(mine.foreground, its.foreground) and torch.equal(mine.background, its.background)


def test_select_and_merge(bank, tiny_backbone):
    assert [e.label for e in bank.select(["object", "cat"]).entries] == ["object", "cat", "cat"]
    with pytest.raises(BankError, match=r"no supports for 'horse'; the bank holds cat \(2\), dog \(1\), object \(1\)"):
        bank.select(["cat", "horse"])
    more = bank.merge(encode_bank(tiny_backbone, example(7, label="horse"), kinds=KINDS))
    assert more.shots()["horse"] == 1 and len(bank.entries) == 4
    with pytest.raises(BankError, match="different kinds"):
        bank.merge(encode_bank(tiny_backbone, example(7), kinds=("input",)))


def test_other_weights_positions_and_kinds(bank, tiny_backbone, tmp_path):
    from conftest import tiny_clip

    from clipseg_ws.backbones.openclip import OpenClipBackbone

    model = tiny_clip()
    with torch.no_grad():
        model.visual.proj.add_(1e-3)
    other = OpenClipBackbone(model, name="other")
    path = bank.save(tmp_path / "b.safetensors")
    with pytest.raises(BankError, match=r"made with other weights: custom .* the model now is other"):
        load_bank(path, other)
    with pytest.raises(BankError, match="position_interpolation='bicubic', now it is 'bilinear'"):
        load_bank(path, tiny_backbone.with_positions("bilinear"))
    with pytest.raises(BankError, match="not keys"):
        bank.check(tiny_backbone, ("input", "keys"))
    bank.check(tiny_backbone, KINDS)


def test_files_that_are_no_bank(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match="no support bank"):
        load_bank(tmp_path / "none.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(BankError, match="damaged"):
        load_bank(tmp_path / "x.safetensors")
    save_file({"a": torch.ones(1)}, tmp_path / "y.safetensors")
    with pytest.raises(BankError, match="no support bank"):
        load_bank(tmp_path / "y.safetensors")


def test_supports_without_masks_and_empty_ones(tiny_backbone):
    good = example(1)
    with pytest.raises(SupportError, match="has no mask"):
        encode_bank(tiny_backbone, [good, Support(good.image, None, "cat")], kinds=("input",))
    with pytest.raises(SupportError, match="empty"):
        encode_bank(tiny_backbone, Support(good.image, np.zeros((50, 70), np.uint8)), kinds=("input",))


def test_names_of_files_are_kept(tiny_backbone, tmp_path):
    good = example(1)
    good.image.save(tmp_path / "a.png")
    bank = encode_bank(tiny_backbone, [(tmp_path / "a.png", good.mask)], kinds=("input",))
    assert bank.entries[0].name == str(tmp_path / "a.png") and bank.labels == ("object",)


@pytest.mark.parametrize("kind", ["input", "norm", "out", "keys", "values", "naclip", "layer:1"])
def test_feature_kinds(tiny_backbone, kind):
    tokens = tiny_backbone.encode(torch.randn(2, 3, 48, 80), keep_layers=layers_needed([kind]))
    got = feature_maps(tiny_backbone, tokens, [kind])[kind]
    assert got.shape[0] == 2 and got.shape[2:] == (3, 5)
    a = tiny_backbone.last_block.ln_1(tokens.last_input)
    patch = 1 + 1 * 5 + 4  # row 1, column 4
    oracle = {
        "input": tokens.last_input[1, patch],
        "norm": a[1, patch],
        "out": tiny_backbone.last_block.forward(tokens.last_input)[1, patch],
        "keys": tiny_backbone.last_block.qkv(a)[1][1, :, patch].flatten(),
        "layer:1": tokens.layers[1][1, patch - 1] if tokens.layers else None,
    }
    if kind in oracle:
        assert torch.allclose(got[1, :, 1, 4], oracle[kind], atol=1e-6)
    else:
        assert got[1, :, 1, 4].norm().item() == pytest.approx(1, abs=1e-4)


def test_unknown_feature_kinds(tiny_backbone):
    tokens = tiny_backbone.encode(torch.randn(1, 3, 48, 80))
    with pytest.raises(ValueError, match="choose from input, layer:INDEX, norm"):
        feature_maps(tiny_backbone, tokens, ["valves"])
    with pytest.raises(ValueError, match="was not kept"):
        feature_maps(tiny_backbone, tokens, ["layer:1"])
    with pytest.raises(ValueError, match="block index"):
        layers_needed(["layer:x"])
