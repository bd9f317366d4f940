"""Dense modes against the recorded references and against plain loops; post-processing, windows, options."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import golden_cases

from clipseg_ws.activations.dense import MODES, dense_embeddings, dense_features, gaussian_bias
from clipseg_ws.activations.textscores import class_labels, class_probabilities, drop_small_classes, word_logits
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.pictures.windows import stitch, window_boxes

CASE_MODES = {"CLIP": "clip", "MaskCLIP": "maskclip", "SCLIP": "sclip", "ClearCLIP": "clearclip", "NACLIP": "naclip"}


def mode_of(parameters: dict) -> str:
    """Our name of the recorded method ("vanilla CLIP" and the like is the plain one)."""
    return CASE_MODES.get(parameters["method"], "clip")


@pytest.fixture(scope="module")
def golden_backbone(golden) -> OpenClipBackbone:
    import open_clip

    model = open_clip.model.CLIP(
        embed_dim=64,
        vision_cfg={"image_size": 64, "layers": 12, "width": 128, "head_width": 64, "patch_size": 16},
        text_cfg={"context_length": 77, "vocab_size": 512, "width": 32, "heads": 2, "layers": 1},
        quick_gelu=True,
    )
    state = {k.removeprefix("visual."): v.float() for k, v in golden("tower").items()}
    model.visual.load_state_dict(state, strict=True)
    return OpenClipBackbone(model, position_interpolation="bicubic-offset")


def limit(entry: dict, tensor: str) -> float:
    return entry["tensors"][tensor]["tolerance"]["value"]


@pytest.mark.parametrize("case", golden_cases("dense"))
def test_modes_match_the_references_at_every_size(case, golden, golden_manifest, golden_backbone):
    entry, stored, inputs = golden_manifest[case], golden(case), golden("dense_inputs")
    mode, std = mode_of(entry["parameters"]), entry["parameters"].get("gaussian_std", 5.0)
    sizes = [name.removeprefix("features_") for name in stored if name.startswith("features_")]
    assert sizes
    for size in sizes:
        pixels = inputs[f"pixels_{size}"]
        for chosen in (slice(None), slice(-1, None)):  # the whole batch, and its last image alone
            tokens = golden_backbone.encode(pixels[chosen], attention_blocks=0)
            features = dense_features(golden_backbone, tokens, mode, gaussian_std=std)
            unit = dense_embeddings(golden_backbone, tokens, mode, gaussian_std=std)
            assert unit.shape[1:3] == tokens.grid
            torch.testing.assert_close(
                features, stored[f"features_{size}"][chosen], rtol=0, atol=limit(entry, f"features_{size}")
            )
            torch.testing.assert_close(
                unit.flatten(1, 2),
                stored[f"normalized_{size}"][chosen],
                rtol=0,
                atol=limit(entry, f"normalized_{size}"),
            )
            logits = word_logits(unit, inputs["text"]).flatten(2).transpose(1, 2)
            torch.testing.assert_close(
                logits, stored[f"logits_{size}"][chosen], rtol=0, atol=limit(entry, f"logits_{size}")
            )


RECORDED = ("clip", "maskclip", "sclip", "clearclip", "naclip")


def test_every_published_mode_is_recorded():
    """The parity test above really covers each mode (it would pass on an empty list of cases)."""
    cases = golden_cases("dense")
    if cases == ["no-shared-folder"]:
        pytest.skip("no ../shared beside this checkout")
    for mode in RECORDED:
        name = {"clip": "vanilla"}.get(mode, mode)
        assert mode in MODES and any(name in case for case in cases), mode


def windows_mean(backbone, pixels, text, parameters) -> torch.Tensor:
    """Mean logits [1, T, H, W] over sliding windows at network size, by the package's own window functions."""
    size = tuple(pixels.shape[2:])
    boxes = window_boxes(size, parameters["crop"], parameters["stride"])
    windows = (window_logits(backbone, pixels[:, :, y0:y1, x0:x1], text, parameters) for y0, y1, x0, x1 in boxes)
    return stitch(windows, boxes, size)


def window_logits(backbone, crop, text, parameters) -> torch.Tensor:
    """[1, T, H, W] logits of one window: floor to the patch grid, or pad with zeros (ClearCLIP)."""
    p, (high, wide) = backbone.patch_size, crop.shape[2:]
    top = left = 0
    if parameters["method"] == "ClearCLIP":
        pad_y, pad_x = -high % p, -wide % p
        top, left = pad_y // 2, pad_x // 2
        crop = F.pad(crop, (left, pad_x - left, top, pad_y - top))
        size = tuple(crop.shape[2:])
    else:
        size = (high, wide)
        crop = crop[:, :, : high // p * p, : wide // p * p]
    tokens = backbone.encode(crop, attention_blocks=0)
    logits = word_logits(dense_embeddings(backbone, tokens, mode_of(parameters)), text)
    logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return logits[:, :, top : top + high, left : left + wide]


def resize(x: torch.Tensor, size) -> torch.Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def check_labels(labels, stored, entry):
    wanted = entry["tensors"]["label_map"]["tolerance"]["value"]
    assert (labels == stored["label_map"].long()).float().mean() >= wanted


@pytest.mark.parametrize("case", golden_cases("slide"))
def test_windows_and_post_processing_match(case, golden, golden_manifest, golden_backbone):
    entry, stored, inputs = golden_manifest[case], golden(case), golden("dense_inputs")
    par, original = entry["parameters"], entry["parameters"]["original_size"]
    pixels = inputs[par["pixels"]]
    network = windows_mean(golden_backbone, pixels, inputs["text_slide"], par)
    if "logits_windows_mean" in stored:
        atol = limit(entry, "logits_windows_mean")
        torch.testing.assert_close(network[0], stored["logits_windows_mean"], rtol=0, atol=atol)
    logits = resize(network, original)
    if "logits_resized" in stored:
        torch.testing.assert_close(logits[0], stored["logits_resized"], rtol=0, atol=limit(entry, "logits_resized"))
    if par["pamr"]:
        pamr = pytest.importorskip("clipseg_ws.refine.pamr").pamr
        logits = pamr(logits, resize(pixels, original), **{k: par["pamr"][k] for k in ("iterations", "dilations")})
        torch.testing.assert_close(logits[0], stored["logits_pamr"], rtol=0, atol=limit(entry, "logits_pamr"))
    probabilities = class_probabilities(
        logits, inputs["query_idx"].long() - 1, int(inputs["query_idx"].max()), par["logit_scale"]
    )
    if "class_probs" in stored:
        torch.testing.assert_close(probabilities[0], stored["class_probs"], rtol=0, atol=limit(entry, "class_probs"))
    if par["area_thd"]:
        probabilities = drop_small_classes(probabilities, par["area_thd"])
        atol = limit(entry, "class_probs_after_area")
        torch.testing.assert_close(probabilities[0], stored["class_probs_after_area"], rtol=0, atol=atol)
    check_labels(class_labels(probabilities, par["prob_thd"])[0], stored, entry)


@pytest.mark.parametrize("case", golden_cases("whole"))
def test_whole_image_matches(case, golden, golden_manifest, golden_backbone):
    entry, stored, inputs = golden_manifest[case], golden(case), golden("dense_inputs")
    par = entry["parameters"]
    pixels = inputs[par["pixels"]]
    p = golden_backbone.patch_size
    cut = pixels[:, :, : pixels.shape[2] // p * p, : pixels.shape[3] // p * p]
    tokens = golden_backbone.encode(cut, attention_blocks=0)
    logits = word_logits(dense_embeddings(golden_backbone, tokens, mode_of(par)), inputs["text_slide"])
    if par["method"] == "NACLIP":  # in two steps
        logits = resize(logits, pixels.shape[2:])
    logits = resize(logits, par["original_size"])
    torch.testing.assert_close(logits[0], stored["logits_resized"], rtol=0, atol=limit(entry, "logits_resized"))
    classes = int(inputs["query_idx"].max())
    probabilities = class_probabilities(logits, inputs["query_idx"].long() - 1, classes, par["logit_scale"])
    check_labels(class_labels(probabilities, par["prob_thd"])[0], stored, entry)


# ---- without the recorded data ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 48, 80, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def tokens(tiny_backbone, pixels):
    return tiny_backbone.encode(pixels, attention_blocks=3, keep_layers=(0, 1))


def plain_dense(backbone, tokens, mode: str, std: float) -> torch.Tensor:
    """The table of the methods, head by head, from open_clip's own weights."""
    block, x = backbone.model.visual.transformer.resblocks[-1], tokens.last_input
    joint = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
    q, k, v = joint.chunk(3, dim=-1)
    d = q.shape[-1] // block.attn.num_heads
    heads = []
    for i in range(block.attn.num_heads):
        s = slice(i * d, (i + 1) * d)
        a = {name: t[..., s] for name, t in (("q", q), ("k", k), ("v", v))}
        names = {"qk", "qq", "kk", *MODES[mode].pairs}
        score = {n: (a[n[0]] @ a[n[1]].transpose(1, 2) / math.sqrt(d)) for n in names}
        h, w = tokens.grid
        for r1 in range(h * w):
            for r2 in range(h * w):
                dist2 = (r1 // w - r2 // w) ** 2 + (r1 % w - r2 % w) ** 2
                score["kk"][:, 1 + r1, 1 + r2] += math.exp(-dist2 / (2 * std**2)) if mode == "naclip" else 0.0
        weights = {
            "clip": lambda s=score: s["qk"].softmax(-1),
            "maskclip": lambda s=score: torch.eye(s["qk"].shape[-1]).expand_as(s["qk"]),
            "sclip": lambda s=score: s["qq"].softmax(-1) + s["kk"].softmax(-1),
            "clearclip": lambda s=score: s["qq"].softmax(-1),
            "naclip": lambda s=score: s["kk"].softmax(-1),
        }.get(mode, lambda s=score: sum(s[pair].softmax(-1) for pair in MODES[mode].pairs))()
        heads.append(weights @ v[..., s])
    y = block.ls_1(block.attn.out_proj(torch.cat(heads, -1)))
    if mode in ("clip", "sclip"):
        y = x + y
        y = y + block.ls_2(block.mlp(block.ln_2(y)))
    return (backbone.model.visual.ln_post(y) @ backbone.model.visual.proj)[:, 1:]


@pytest.mark.parametrize("mode", MODES)
@torch.no_grad()
def test_modes_match_plain_loops_on_a_rectangle(mode, tiny_backbone, tokens):
    expected = plain_dense(tiny_backbone, tokens, mode, std=2.0)
    features = dense_features(tiny_backbone, tokens, mode, gaussian_std=2.0)
    torch.testing.assert_close(features, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("mode", MODES)
def test_an_image_does_not_depend_on_its_batch(mode, tiny_backbone, pixels, tokens):
    together = dense_embeddings(tiny_backbone, tokens, mode)
    assert together.shape == (3, 3, 5, tiny_backbone.embed_dim)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3, 3, 5), rtol=0, atol=1e-5)
    for i in range(3):
        alone = dense_embeddings(tiny_backbone, tiny_backbone.encode(pixels[i : i + 1]), mode)
        assert (alone[0] - together[i]).abs().max() < 1e-5


def test_modes_differ(tiny_backbone, tokens):
    maps = {mode: dense_embeddings(tiny_backbone, tokens, mode) for mode in MODES}
    names = list(maps)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert (maps[a] - maps[b]).abs().max() > 1e-3, (a, b)


def test_unknown_mode_and_wrong_numbers_say_what_is_allowed(tiny_backbone, tokens):
    with pytest.raises(ValueError, match=f"dense mode 'gem' is unknown; choose one of {', '.join(MODES)}"):
        dense_embeddings(tiny_backbone, tokens, "gem")
    with pytest.raises(ValueError, match="positive"):
        dense_embeddings(tiny_backbone, tokens, "naclip", gaussian_std=0.0)
    with pytest.raises(ValueError, match="row_normalised"):
        dense_embeddings(tiny_backbone, tokens, "naclip", mix=torch.ones(3, 4, 4))


def test_gaussian_bias_is_symmetric_and_leaves_the_class_token():
    bias = gaussian_bias((2, 3), 1.5, torch.zeros(()))
    assert bias.shape == (6, 7) and bias[:, 0].abs().max() == 0
    square = bias[:, 1:]
    torch.testing.assert_close(square, square.T)
    torch.testing.assert_close(square.diagonal(), torch.ones(6))
    assert square[0, 5] == pytest.approx(math.exp(-(1 + 4) / (2 * 1.5**2)), abs=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("mode", ["maskclip", "sclip"])
def test_layer_scale_is_applied(mode):
    import open_clip

    torch.manual_seed(2)
    model = open_clip.model.CLIP(
        embed_dim=16,
        vision_cfg={
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
            "ls_init_value": 0.3,
        },
        text_cfg={"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1},
    )
    backbone = OpenClipBackbone(model)
    x = backbone.encode(torch.randn(1, 3, 32, 48), attention_blocks=0)
    assert type(backbone.blocks[-1].ls_1).__name__ == "LayerScale"
    torch.testing.assert_close(
        dense_features(backbone, x, mode), plain_dense(backbone, x, mode, 5.0), rtol=0, atol=2e-5
    )
