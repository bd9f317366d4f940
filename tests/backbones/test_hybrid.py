"""The family of hybrids: a convolutional stem in front of CLIP's ViT, against forwards written out by hand."""

from __future__ import annotations

import json
import math
import pickle
import socket
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import HYBRID_CFG, noisy_stem, save_tiny_hybrid, tiny_hybrid
from safetensors.torch import load_file, save_file

from clipseg_ws.backbones import UnsupportedBackbone, download, load_backbone, places, wrap
from clipseg_ws.backbones.hybrid import STEMS, ConvStem, empty_hybrid
from clipseg_ws.backbones.layout import build_clip
from clipseg_ws.backbones.openclip import OpenClipBackbone

WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """(folder with float16 weights, the model in it as float32); neither is changed."""
    path = tmp_path_factory.mktemp("hybrid")
    return path, save_tiny_hybrid(path, dtype=torch.float16)


def load(path, **settings) -> OpenClipBackbone:
    return load_backbone(f"local-dir:{path}", **{"device": "cpu", "dtype": "float32", "offline": True, **settings})


def pixels_of(h: int = 48, w: int = 80, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, h, w, generator=torch.Generator().manual_seed(1))


# ---- numbers ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("name", STEMS)
def test_features_are_timms_own(name):
    from timm import create_model

    torch.manual_seed(0)
    stem = noisy_stem(ConvStem(name, 32))
    own = create_model(name, pretrained=False, features_only=True, out_indices=(2, 3)).eval()
    whole = create_model(name, pretrained=False).eval()
    for model in (own, whole):
        model.load_state_dict(stem.trunk.state_dict(), strict=False)
    for size in ((64, 96), (48, 80), (16, 16)):
        pixels = pixels_of(*size)
        levels = stem.features(pixels)
        for mine, theirs in zip(levels, (*own(pixels), whole.forward_features(pixels)), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
            assert float(mine.std()) > 0.05
        assert tuple(level.shape[1] for level in levels) == STEMS[name][1]
        for level, stride in zip(levels, (8, 16, 32), strict=True):
            assert level.shape[2:] == tuple(math.ceil(side / stride) for side in size)


def enlarged(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[C, h, w] -> [C, H, W], bilinear between the centres of cells, one target cell after the other."""
    out = np.zeros((image.shape[0], *size))
    for y, x in np.ndindex(*size):
        sides = zip((y, x), image.shape[1:], size, strict=True)
        at = [min(max((i + 0.5) * n / m - 0.5, 0), n - 1) for i, n, m in sides]
        (top, left), (fy, fx) = (tuple(map(int, at)), [value % 1 for value in at])
        down, right = min(top + 1, image.shape[1] - 1), min(left + 1, image.shape[2] - 1)
        upper = image[:, top, left] * (1 - fx) + image[:, top, right] * fx
        lower = image[:, down, left] * (1 - fx) + image[:, down, right] * fx
        out[:, y, x] = upper * (1 - fy) + lower * fy
    return out


def norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * weight + bias


def textbook(model, pixels: torch.Tensor, heads: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture at the native grid -> (class embedding [E], tokens entering the last block, mean attention of the
    last two blocks [N, N]): features of the stem, then every formula written out in float64."""
    s = {key: value.double().numpy() for key, value in model.state_dict().items()}
    _, x16, x32 = (level[0].double().numpy() for level in model.visual.conv1.features(pixels))
    x32 = enlarged(x32, x16.shape[1:])
    rows = [level.reshape(len(level), -1).T for level in (x16, x32)]
    stem = "visual.conv1."
    rows = [norm(r, s[f"{stem}norm{n}.weight"], s[f"{stem}norm{n}.bias"]) for r, n in zip(rows, (16, 32), strict=True)]
    patches = np.concatenate(rows, -1) @ s[f"{stem}project.weight"].T + s[f"{stem}project.bias"]
    x = np.concatenate([s["visual.class_embedding"][None], patches]) + s["visual.positional_embedding"]
    x = norm(x, s["visual.ln_pre.weight"], s["visual.ln_pre.bias"])
    attention, last_input = np.zeros((len(patches), len(patches))), x
    for i in range(3):
        p = f"visual.transformer.resblocks.{i}."
        last_input = x
        a = norm(x, s[p + "ln_1.weight"], s[p + "ln_1.bias"])
        q, k, v = np.split(a @ s[p + "attn.in_proj_weight"].T + s[p + "attn.in_proj_bias"], 3, axis=-1)
        joined = []
        for part in np.split(np.arange(q.shape[1]), heads):
            scores = q[:, part] @ k[:, part].T / math.sqrt(len(part))
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            attention += weights[1:, 1:] / (2 * heads) * (i > 0)
            joined.append(weights @ v[:, part])
        x = x + np.concatenate(joined, -1) @ s[p + "attn.out_proj.weight"].T + s[p + "attn.out_proj.bias"]
        hidden = norm(x, s[p + "ln_2.weight"], s[p + "ln_2.bias"]) @ s[p + "mlp.c_fc.weight"].T + s[p + "mlp.c_fc.bias"]
        hidden = F.gelu(torch.from_numpy(hidden)).numpy()
        x = x + hidden @ s[p + "mlp.c_proj.weight"].T + s[p + "mlp.c_proj.bias"]
    pooled = norm(x[:1], s["visual.ln_post.weight"], s["visual.ln_post.bias"]) @ s["visual.proj"]
    return pooled[0], last_input, attention


@torch.no_grad()
def test_every_formula_written_out(saved):
    backbone, pixels = load(saved[0]), pixels_of(64, 64)
    embeddings, tokens = backbone.embed(pixels), backbone.encode(pixels, attention_blocks=2)
    for i in range(2):
        embedding, last_input, attention = textbook(saved[1], pixels[i : i + 1])
        assert np.abs(embeddings[i].numpy() - embedding).max() <= 1e-5
        assert np.abs(tokens.last_input[i].numpy() - last_input).max() <= 3e-5  # roundings of float32, values of 1
        assert np.abs(tokens.attention[i].numpy() - attention).max() <= 1e-6
    assert float(tokens.last_input[:, 1:].std(1).mean()) > 0.1  # the patches of a picture differ
    assert float((tokens.last_input[0] - tokens.last_input[1]).abs().mean()) > 0.1  # and so do the pictures


@torch.no_grad()
@pytest.mark.parametrize("size", [(48, 80), (80, 48), (16, 32), (112, 64)])
def test_sizes_and_batches(saved, size):
    """Odd and even numbers of patches, height other than width: two pictures together are the two alone."""
    backbone, pixels = load(saved[0]), pixels_of(*size)
    grid = (size[0] // 16, size[1] // 16)
    tokens = backbone.encode(pixels, attention_blocks=2, keep_layers=(0,))
    assert tokens.grid == grid and tokens.last_input.shape == (2, 1 + grid[0] * grid[1], 32)
    for i in range(2):
        alone = backbone.encode(pixels[i : i + 1], attention_blocks=2, keep_layers=(0,))
        torch.testing.assert_close(alone.last_input[0], tokens.last_input[i], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.attention[0], tokens.attention[i], atol=1e-6, rtol=1e-5)
    assert not backbone.model.training and not any(part.training for part in backbone.visual.conv1.modules())


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_batch_norms_keep_their_statistics_in_half_precision(saved, dtype):
    backbone, exact, pixels = load(saved[0]), load(saved[0]), pixels_of()
    name = backbone.weights_sha256
    backbone.place(torch.device("cpu"), dtype)
    assert backbone.dtype == dtype == backbone.visual.conv1.trunk.conv_stem.weight.dtype
    for key, value in backbone.visual.conv1.trunk.bn1.state_dict().items():
        assert torch.equal(value, exact.visual.conv1.trunk.bn1.state_dict()[key])  # float32, not rounded
    got, want = backbone.encode(pixels), exact.encode(pixels)
    assert got.last_input.dtype == dtype and backbone.weights_sha256 == name == exact.weights_sha256
    near = F.cosine_similarity(got.last_input.float(), want.last_input, dim=-1)
    assert near.min() > (0.995 if dtype == torch.bfloat16 else 0.9999)
    backbone.place(torch.device("cpu"), torch.float32)
    assert {value.dtype for value in backbone.visual.conv1.parameters()} == {torch.float32}


# ---- the name of the weights -----------------------------------------------------------------------------------------


def test_the_name_of_the_weights_holds_statistics_and_no_counters():
    model = tiny_hybrid()
    before = wrap(model).weights_sha256
    for key, buffer in model.named_buffers():
        if key.endswith("num_batches_tracked"):
            buffer.add_(7)
    assert wrap(model).weights_sha256 == before
    model.visual.conv1.trunk.bn1.running_var[0] += 0.01
    assert wrap(model).weights_sha256 != before


def test_pickled_and_unpickled(saved):
    backbone, pixels = wrap(saved[1]), pixels_of()
    twin = pickle.loads(pickle.dumps(backbone))
    assert torch.equal(twin.encode(pixels).last_input, backbone.encode(pixels).last_input)
    assert twin.weights_sha256 == backbone.weights_sha256


# ---- loading ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_float16_file_is_the_model(saved):
    backbone, pixels = load(saved[0]), pixels_of(64, 64)
    assert isinstance(backbone, OpenClipBackbone) and backbone.dtype == torch.float32
    assert (backbone.mean, backbone.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)) and backbone.native_grid == (4, 4)
    torch.testing.assert_close(backbone.embed(pixels), saved[1].encode_image(pixels), atol=1e-5, rtol=1e-5)
    assert backbone.weights_sha256 == wrap(deepcopy(saved[1])).weights_sha256
    twin = backbone.with_positions("bicubic-offset")
    assert twin.visual is backbone.visual and not torch.equal(twin.encode(pixels_of()).last_input,
                                                              backbone.encode(pixels_of()).last_input)  # fmt: skip


def test_counters_in_the_file_change_nothing(saved, tmp_path):
    state = {**tiny_hybrid().state_dict(), **load_file(saved[0] / WEIGHTS)}  # float16 weights, int64 counters
    assert sum(not value.is_floating_point() for value in state.values()) > 40
    save_file(state, tmp_path / WEIGHTS)
    (tmp_path / "open_clip_config.json").write_text((saved[0] / "open_clip_config.json").read_text())
    assert load(tmp_path).weights_sha256 == load(saved[0]).weights_sha256


def test_nothing_is_fetched_drawn_or_left_on_the_meta_device(saved, monkeypatch, caplog):
    import timm.models._builder as builder

    def refuse(*arguments, **options):
        raise AssertionError("timm's weights were asked for")

    monkeypatch.setattr(builder, "load_pretrained", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    torch.manual_seed(7)
    want = torch.rand(3)
    torch.manual_seed(7)
    with caplog.at_level(0):
        model = build_clip(HYBRID_CFG, load_file(saved[0] / WEIGHTS), "file")
    assert torch.equal(torch.rand(3), want) and not caplog.records
    assert not any(value.is_meta for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("visual.conv1.trunk.blocks.0.0.bn1.running_mean"), "no visual.conv1.*running_mean"),
        (lambda s: s.pop("visual.conv1.norm32.weight"), r"no visual\.conv1\.norm32\.weight"),
        (lambda s: s.update({"visual.conv1.weight": torch.ones(2)}), r"unknown visual\.conv1\.weight"),
        (lambda s: s.update({"visual.conv1.project.bias": torch.ones(3)}), r"project\.bias is \[3\], not \[32\]"),
        (lambda s: s.update({"other.num_batches_tracked": torch.tensor(1)}), r"unknown other\.num_batches_tracked"),
    ],
)
def test_weights_that_do_not_fit_are_named(saved, change, words):
    state = load_file(saved[0] / WEIGHTS)
    change(state)
    with pytest.raises(ValueError, match=words):
        build_clip(HYBRID_CFG, state, "file")


def changed(**vision) -> dict:
    return {**HYBRID_CFG, "vision_cfg": {**HYBRID_CFG["vision_cfg"], **vision}}


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        (changed(stem="resnet50"), f"stem 'resnet50' is unknown; known are {', '.join(STEMS)}"),
        (changed(stem=""), "stem '' is unknown"),
        (changed(stem=["a"]), "is unknown"),
        (changed(patch_size=32), "patches are of 32 pixels; a convolutional stem makes patches of 16"),
        (changed(timm_model_name="vit_base_patch16_224"), "open_clip's own vision transformer"),
        ({**HYBRID_CFG, "text_cfg": {**HYBRID_CFG["text_cfg"], "hf_model_name": "x/y"}}, "own vision transformer"),
        ({**HYBRID_CFG, "multimodal_cfg": {}}, "own vision transformer and text"),
        (changed(layers=[1, 2, 3, 4]), "ResNet"),
    ],
)
def test_what_is_no_hybrid_is_refused_before_the_weights_are_read(tmp_path, cfg, words):
    (tmp_path / WEIGHTS).write_bytes(b"never read")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg}))
    with pytest.raises(UnsupportedBackbone, match=words):
        load(tmp_path)
    if "ResNet" not in words:
        with pytest.raises(ValueError, match=words):
            empty_hybrid(cfg)


def test_what_open_clip_defaults_to_may_be_left_out():
    vision = {key: value for key, value in HYBRID_CFG["vision_cfg"].items() if key not in ("patch_size", "width")}
    with torch.device("meta"):
        model = empty_hybrid({**HYBRID_CFG, "vision_cfg": {**vision, "layers": 1, "head_width": 64}})
    assert model.visual.conv1.project.out_features == 768
    with pytest.raises(ValueError, match="choose one of tf_efficientnet_lite0, tf_efficientnet_lite2"):
        ConvStem("resnet50", 32)


def test_no_stem_is_the_plain_model(tmp_path):
    from conftest import tiny_clip

    vision = {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16, "stem": None}
    cfg = {**HYBRID_CFG, "embed_dim": 32, "quick_gelu": True, "vision_cfg": vision}
    assert type(build_clip(cfg, tiny_clip().state_dict(), "file").visual.conv1) is torch.nn.Conv2d


def test_photo_is_read_from_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "EMBEDDED", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"'photo'.*lacks open_clip_config\.json, photo\.safetensors"):
        load_backbone("photo")
    model = save_tiny_hybrid(tmp_path / "photo", dtype=torch.float16, weights="photo.safetensors")
    backbone = load_backbone("photo", device="cpu", dtype="float32")
    assert backbone.name == "photo" and backbone.weights_sha256 == wrap(model).weights_sha256
    assert download("photo") == [tmp_path / "photo" / "photo.safetensors"]
    (tmp_path / "photo" / "photo.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks photo\.safetensors; install"):
        load_backbone("photo")


# ---- the whole way ---------------------------------------------------------------------------------------------------


def test_a_segmenter_on_a_hybrid(saved, tmp_path):
    from PIL import Image

    from clipseg_ws import Segmenter
    from clipseg_ws.structures import Support

    segment = Segmenter(f"local-dir:{saved[0]}", device="cpu", dtype="float32", short_side=64, cache_mb=16)
    picture = Image.effect_noise((96, 64), 80).convert("RGB")
    first = segment(picture, classes="cat; sofa", tags=["cat"])
    again = segment(picture, classes="cat; sofa", tags=["cat"])
    assert first.labels.shape == (64, 96) and np.array_equal(first.labels, again.labels) and segment.encoder_runs == 1
    mask = np.zeros((64, 96), np.uint8)
    mask[16:48, 16:48] = 1
    assert segment(picture, supports=Support(picture, mask, "cat")).labels.shape == (64, 96)
    twin = pickle.loads(pickle.dumps(segment))
    assert np.array_equal(twin(picture, classes="cat; sofa", tags=["cat"]).labels, first.labels)
