"""The stem of a hybrid as a second model: its tokens by hand, its names, few-shot matching and ProxyCLIP with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import noisy_stem, save_tiny_hybrid
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.backbones import UnsupportedBackbone, load_backbone, load_features, places
from clipseg_ws.backbones.hybrid import STEMS, ConvStem
from clipseg_ws.backbones.protocol import PictureModel, speaks
from clipseg_ws.backbones.stem_features import StemFeatures
from clipseg_ws.structures import Support

CHANNELS = STEMS["tf_efficientnet_lite0"][1]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a small hybrid model."""
    path = tmp_path_factory.mktemp("hybrid")
    save_tiny_hybrid(path)
    return path


@pytest.fixture(scope="module")
def model() -> StemFeatures:
    torch.manual_seed(0)
    return StemFeatures(noisy_stem(ConvStem("tf_efficientnet_lite0", 32)), name="my:stem")


def pixels_of(h: int = 48, w: int = 80) -> torch.Tensor:
    return torch.randn(2, 3, h, w, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_tokens_by_hand(model):
    pixels = pixels_of()
    tokens = model.encode(pixels, keep_layers=(0, 1, 2))
    assert tokens.grid == (3, 5) and tokens.last_input.shape == (2, 16, model.width) and tokens.attention is None
    x8, x16, x32 = model.stem.features(pixels)
    big = F.interpolate(x32, (3, 5), mode="bilinear")
    for b, i, j in np.ndindex(2, 3, 5):
        pooled = sum(x8[b, :, 2 * i + y, 2 * j + x] for y in range(2) for x in range(2)) / 4
        parts = [part / part.square().sum().sqrt() for part in (pooled, x16[b, :, i, j], big[b, :, i, j])]
        torch.testing.assert_close(tokens.last_input[b, 1 + 5 * i + j], torch.cat(parts), atol=1e-5, rtol=1e-5)
        for level, part in enumerate(parts):
            torch.testing.assert_close(tokens.layers[level][b, 5 * i + j], part, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tokens.last_input[:, 0], tokens.last_input[:, 1:].mean(1))


@pytest.mark.parametrize("size", [(48, 80), (16, 16), (64, 32)])
def test_the_cosine_is_the_mean_of_the_strides_in_any_size_and_batch(model, size):
    pixels = pixels_of(*size)
    tokens = model.encode(pixels, keep_layers=(0, 1, 2))
    rows = tokens.last_input[:, 1:]
    each = [tokens.layers[i] @ tokens.layers[i].transpose(1, 2) for i in range(3)]
    joined = F.normalize(rows, dim=-1) @ F.normalize(rows, dim=-1).transpose(1, 2)
    torch.testing.assert_close(joined, sum(each) / 3, atol=1e-5, rtol=1e-5)
    assert tuple(tokens.layers[i].shape[-1] for i in range(3)) == CHANNELS and not model.stem.training
    alone = model.encode(pixels[1:])
    torch.testing.assert_close(alone.last_input[0], tokens.last_input[1], atol=1e-5, rtol=1e-5)


def test_what_cannot_be_asked_for(model):
    with pytest.raises(ValueError, match="multiples of the patch size 16 of my:stem"):
        model.encode(torch.zeros(1, 3, 40, 48))
    with pytest.raises(ValueError, match="indices 0 to 2 of my:stem"):
        model.encode(torch.zeros(1, 3, 32, 48), keep_layers=(3,))


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_stem_by_name_is_that_of_the_model(saved):
    name = f"local-dir:{saved}"
    stem = load_features(f"{name}:stem", device="cpu", dtype="float32")
    whole = load_backbone(name, device="cpu", dtype="float32")
    assert isinstance(stem, StemFeatures) and not speaks(stem)
    members = {member for member in vars(PictureModel) if not member.startswith("_")}
    assert members and all(hasattr(stem, member) for member in members)
    assert (stem.name, stem.patch_size, stem.depth, stem.width) == (f"{name}:stem", 16, 3, sum(CHANNELS))
    assert (stem.mean, stem.std) == (whole.mean, whole.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    own = StemFeatures(whole.visual.conv1)
    assert torch.equal(stem.encode(pixels_of()).last_input, own.encode(pixels_of()).last_input)
    assert stem.weights_sha256 == own.weights_sha256 != whole.weights_sha256
    half = load_features(f"{name}:stem", device="cpu", dtype="bfloat16")
    assert half.dtype == torch.bfloat16 and half.weights_sha256 == stem.weights_sha256
    near = F.cosine_similarity(half.encode(pixels_of()).last_input.float(), stem.encode(pixels_of()).last_input, dim=-1)
    assert near.min() > 0.99


def test_the_stem_of_the_embedded_model(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "EMBEDDED", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"lacks .*photo\.safetensors"):
        load_features("photo:stem")
    save_tiny_hybrid(tmp_path / "photo", weights="photo.safetensors")
    assert load_features("photo:stem", device="cpu").name == "photo:stem"


def test_models_without_a_stem_say_so(tmp_path, saved):
    from test_families import save_open_clip

    save_open_clip(tmp_path)
    names = ("nano:stem", f"local-dir:{tmp_path}:stem", "ViT-B-16-quickgelu/openai:stem")
    for name in names:  # the last one is not fetched to find out
        with pytest.raises(UnsupportedBackbone, match=r"has no convolutional stem.*'photo:stem'"):
            load_features(name, device="cpu", offline=True)
    with pytest.raises(FileNotFoundError, match="':stem' behind it"):
        load_features(f"local-dir:{saved}")
    with pytest.raises(ValueError, match="'MODEL:stem'"):
        load_features("photo")


# ---- what it is for --------------------------------------------------------------------------------------------------


def scene() -> tuple[Image.Image, np.ndarray]:
    """A picture of noise with a square that is plain."""
    values = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    mask = np.zeros((96, 128), np.uint8)
    mask[32:80, 32:96] = 1
    values[mask == 1] = (200, 40, 40)
    return Image.fromarray(values), mask


def test_matching_with_examples(saved, tiny_backbone):
    picture, mask = scene()
    name = f"local-dir:{saved}:stem"
    segment = Segmenter(backbone=tiny_backbone, features=name, dtype="float32", affinity=False, presence=False,
                        keep_maps=True, **{"fewshot.refit": "none"})  # fmt: skip
    bank = segment.bank(Support(picture, mask, "square"))
    assert bank.model == name and bank.entries[0].features["input"].shape == (sum(CHANNELS), 6, 8)
    result = segment(picture, supports=bank)
    found = result.mask("square")
    assert (found & (mask == 1)).sum() / (found | (mask == 1)).sum() > 0.6  # the example itself
    assert result.config["features"] == name and result.config["features_sha256"] == segment.features.weights_sha256
    named = segment(picture, classes="square; cat", supports=bank)
    assert named.extras["maps"].shape == (2, 96, 128)
    for kinds, width in ((["layer:0"], CHANNELS[0]), (["layer:1", "layer:2"], CHANNELS[1])):
        single = segment.variant(**{"fewshot.kinds": kinds})
        own = single.bank(Support(picture, mask, "square"))
        assert own.entries[0].features[kinds[0]].shape == (width, 6, 8)
        assert single(picture, supports=own).mask("square").any()
    with pytest.raises(ValueError, match="no attention; set affinity=false"):
        segment.variant(affinity=True)(picture, supports=bank)


def test_proxyclip_follows_the_stem(saved, tiny_backbone):
    picture, _ = scene()
    segment = Segmenter(backbone=tiny_backbone, features=f"local-dir:{saved}:stem", method="proxyclip", short_side=96)
    result = segment(picture, classes="cat; sofa", background=["wall"])
    assert result.labels.shape == (96, 128)
