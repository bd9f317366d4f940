"""One contract for every family: a small random model, saved in the family's real format and loaded by its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import save_tiny_hybrid, tiny_clip
from safetensors.torch import save_file

from clipseg_ws.backbones import FAMILIES, Backbone, load_backbone, tags
from clipseg_ws.backbones.families import FEATURES, embedded, forms, parse_name
from clipseg_ws.backbones.features import FeatureBackbone
from clipseg_ws.backbones.places import EMBEDDED
from clipseg_ws.backbones.protocol import PictureModel, speaks
from clipseg_ws.registry import Entry

TEXTS = ["a photo of a cat.", "a photo of two dogs", "grass"]
VISION = {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16}
MODEL_CFG = {  # of conftest.tiny_clip
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": VISION,
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def noisy(model: torch.nn.Module) -> torch.nn.Module:
    """The model with norms and biases that are no ones and zeros."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def hf_clip() -> torch.nn.Module:
    from transformers import CLIPConfig, CLIPModel

    tower = {"intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    vision = {"hidden_size": 48, "image_size": 64, "patch_size": 16, **tower}
    torch.manual_seed(0)
    return noisy(
        CLIPModel(CLIPConfig(vision_config=vision, text_config={"hidden_size": 40, **tower}, projection_dim=24))
    )


def save_open_clip(folder: Path, weights: str = "open_clip_model.safetensors") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(noisy(tiny_clip()).state_dict(), folder / weights)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL_CFG, "preprocess_cfg": {}}))


def cache_folder(cache: Path, repo: str) -> Path:
    """A snapshot folder as the hub's client lays it out."""
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    (root / "snapshots" / ("0" * 40)).mkdir(parents=True)
    return root / "snapshots" / ("0" * 40)


def save_tag(tmp_path: Path, monkeypatch) -> str:
    """A weight file in the hub's cache, and a row of open_clip's table that names it."""
    save_open_clip(cache_folder(tmp_path / "hub", "some/repo"))
    half = (0.5, 0.5, 0.5)
    row = tags.Tag("Tiny/random", MODEL_CFG, "some/repo", ("open_clip_model.safetensors",), half, half)
    monkeypatch.setattr(tags, "resolve_tag", {"Tiny/random": row}.__getitem__)
    return "Tiny/random"


def save_repo(tmp_path: Path, monkeypatch) -> str:
    hf_clip().save_pretrained(cache_folder(tmp_path / "hub", "some/clip"))
    return "hf:some/clip"


def save_folder(tmp_path: Path, monkeypatch) -> str:
    save_open_clip(tmp_path / "model")
    return f"local-dir:{tmp_path / 'model'}"


def save_hybrid(tmp_path: Path, monkeypatch) -> str:
    save_tiny_hybrid(tmp_path / "hybrid", dtype=torch.float16)
    return f"local-dir:{tmp_path / 'hybrid'}"


# family -> how a small random model of it is saved and what it is then called; the embedded ones are taken as they are
SAVE = {"open_clip": save_tag, "hf": save_repo, "local-dir": save_folder, "hybrid": save_hybrid}


@pytest.fixture(params=[*FAMILIES, "hybrid"])
def backbone(request, tmp_path, monkeypatch) -> Backbone:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    family = request.param
    if family in embedded() and not (EMBEDDED / family / f"{family}.safetensors").is_file():
        pytest.skip(f"the weights of {family} are not in this checkout")
    name = family if family in embedded() else SAVE[family](tmp_path, monkeypatch)
    assert parse_name(name)[0].name == {"hybrid": "local-dir"}.get(family, family)
    return load_backbone(name, device="cpu", dtype="float32", offline=True)


def members(protocol: type) -> set[str]:
    return {name for kind in protocol.__mro__ for name in vars(kind) if not name.startswith("_")}


def pixels_of(backbone: Backbone) -> torch.Tensor:
    p = backbone.patch_size
    return torch.randn(2, 3, 3 * p, 5 * p, generator=torch.Generator().manual_seed(1))


def test_has_every_member_of_the_protocol(backbone):
    assert {"encode", "last_block", "embed_text"} <= members(Backbone)
    assert all(hasattr(backbone, member) for member in members(Backbone))
    assert speaks(backbone) and len(backbone.mean) == len(backbone.std) == 3
    assert (backbone.device.type, backbone.dtype) == ("cpu", torch.float32) and len(backbone.weights_sha256) == 64


def test_encode_gives_tokens_of_any_grid(backbone):
    tokens = backbone.encode(pixels_of(backbone), attention_blocks=2, keep_layers=(0, 1))
    assert tokens.grid == (3, 5) and tokens.last_input.shape == (2, 16, backbone.width)
    assert tokens.attention.shape == (2, 15, 15) and tokens.attention.min() >= 0 and tokens.attention.sum(-1).max() <= 1
    assert {i: t.shape for i, t in tokens.layers.items()} == dict.fromkeys((0, 1), (2, 15, backbone.width))
    bare = backbone.encode(pixels_of(backbone), attention_blocks=0)
    assert bare.attention is None and not bare.layers
    torch.testing.assert_close(bare.last_input, tokens.last_input, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="multiples of the patch size"):
        backbone.encode(pixels_of(backbone)[..., 1:])


def test_a_picture_does_not_depend_on_its_batch(backbone):
    pixels = pixels_of(backbone)
    # convolutions of another batch are summed in another order, 60 layers deep
    near = {"atol": 5e-4, "rtol": 1e-3} if backbone.name == "photo" else {"atol": 1e-5, "rtol": 1e-5}
    together = backbone.encode(pixels, attention_blocks=2, keep_layers=(0,))
    for i in range(2):
        alone = backbone.encode(pixels[i : i + 1], attention_blocks=2, keep_layers=(0,))
        for a, b in ((alone.last_input, together.last_input), (alone.attention, together.attention)):
            torch.testing.assert_close(a[0], b[i], **near)
        torch.testing.assert_close(alone.layers[0][0], together.layers[0][i], **near)
    torch.testing.assert_close(backbone.embed(pixels)[1:], backbone.embed(pixels[1:]), **near)


def test_texts_are_unit_vectors_comparable_with_pictures(backbone):
    vectors = backbone.embed_text(TEXTS, batch_size=2)
    assert vectors.shape == (3, backbone.embed_dim) and vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(backbone.embed_text(TEXTS[2:]), vectors[2:], atol=1e-5, rtol=1e-5)
    assert backbone.embed(pixels_of(backbone)).shape == (2, backbone.embed_dim)
    assert backbone.tokenizer(TEXTS).shape[0] == 3 and backbone.logit_scale > 0
    with pytest.raises(ValueError, match="no texts"):
        backbone.embed_text([])


@torch.no_grad()
def test_last_block_weights_reproduce_the_models_own_block(backbone):
    """Against the library's module, piece by piece and through to the embedding."""
    tokens, last = backbone.encode(pixels_of(backbone), attention_blocks=1), backbone.last_block
    visual = backbone.model.visual  # all families so far hold an open_clip.CLIP
    block = visual.transformer.resblocks[-1]
    want = block(tokens.last_input)
    torch.testing.assert_close(last.forward(tokens.last_input), want, atol=1e-5, rtol=1e-5)
    middle = tokens.last_input + last.project(tokens.last.context)
    torch.testing.assert_close(last.mlp(middle), want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last.embed(want), visual.ln_post(want) @ visual.proj, atol=1e-5, rtol=1e-5)
    a = last.ln_1(tokens.last_input)
    torch.testing.assert_close(a, block.ln_1(tokens.last_input), atol=1e-6, rtol=1e-6)
    for mine, any_block in zip(last.qkv(a), backbone.block_qkv(backbone.depth - 1, tokens.last_input), strict=True):
        assert torch.equal(mine, any_block)
    native = [side * backbone.patch_size for side in backbone.native_grid]
    pixels = torch.randn(1, 3, *native, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(backbone.embed(pixels), backbone.model.encode_image(pixels), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_last_block_weights_follow_moved_weights(backbone):
    before = backbone.last_block.projection.clone()
    name = backbone.weights_sha256
    backbone.place(torch.device("cpu"), torch.bfloat16)
    assert backbone.dtype == torch.bfloat16 == backbone.last_block.fc1.weight.dtype
    torch.testing.assert_close(backbone.last_block.projection.float(), before, atol=1e-2, rtol=1e-2)
    assert backbone.weights_sha256 == name and backbone.embed_text(TEXTS).dtype == torch.float32
    assert backbone.encode(pixels_of(backbone)).last_input.isfinite().all()


def test_other_positions_share_the_weights(backbone):
    twin = backbone.with_positions("bilinear")
    assert (twin.position_interpolation, backbone.position_interpolation) == ("bilinear", "bicubic")
    assert twin.last_block.projection.data_ptr() == backbone.last_block.projection.data_ptr()
    pixels = pixels_of(backbone)
    assert not torch.equal(twin.encode(pixels).last_input, backbone.encode(pixels).last_input)
    with pytest.raises(ValueError, match="bicubic-offset"):
        backbone.with_positions("nearest")


# ---- names -----------------------------------------------------------------------------------------------------------


def test_the_forms_come_from_the_table():
    *most, last = (repr(entry.about["form"]) for entry in FAMILIES.values())
    assert forms() == f"{', '.join(most)} or {last}" and "'hf:REPO', 'local-dir:PATH'" in forms()
    assert forms(FEATURES) == "'hf:REPO', 'local-dir:PATH' or 'MODEL:stem'"
    assert "'hf:REPO'" not in forms(without="hf") and "'local-dir:PATH'" in forms(without="hf")
    with pytest.raises(ValueError, match=r"features name 'nano' is not understood.*'hf:REPO', 'local-dir:PATH' or"):
        parse_name("nano", FEATURES, "features")


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("photo:stem", ("stem", "photo")),
        ("local-dir:/a:b/c:stem", ("stem", "local-dir:/a:b/c")),
        ("local-dir:/a/stem", ("local-dir", "/a/stem")),
        ("hf:a/b:stem", ("stem", "hf:a/b")),
        ("hf:a/b", ("hf", "a/b")),
    ],
)
def test_a_suffix_comes_before_a_prefix(name, parsed):
    entry, rest = parse_name(name, FEATURES, "features")
    assert (entry.name, rest) == parsed
    if name.endswith(":stem"):
        with pytest.raises(ValueError, match="not understood"):
            parse_name(":stem", FEATURES, "features")


def test_a_new_family_is_one_line():
    table = {
        **FAMILIES,
        "timm": Entry("timm", "timm's models", "x:y", about={"form": "timm:MODEL", "example": "timm:a"}),
    }
    entry, rest = parse_name("timm:vit_base", table)
    assert (entry.name, rest) == ("timm", "vit_base") and "'timm:MODEL'" in forms(table)
    with pytest.raises(ValueError, match="not understood"):
        parse_name("timm:vit_base")


def test_a_feature_model_sees_and_does_not_speak():
    from conftest import small_dino

    model = small_dino()
    assert isinstance(model, FeatureBackbone) and not speaks(model)
    assert all(hasattr(model, member) for member in members(PictureModel))
