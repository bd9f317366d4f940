"""Names, open_clip's table, folders in open_clip's format, files that are refused, and life without the network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import zipfile
from copy import deepcopy
from functools import cache
from pathlib import Path

import open_clip
import pytest
import torch
from conftest import tiny_clip
from hypothesis import given
from hypothesis import strategies as st
from open_clip.pretrained import get_pretrained_cfg
from safetensors.torch import save_file

from clipseg_ws.backbones import (
    FAMILIES,
    FEATURES,
    MODELS,
    UnsupportedBackbone,
    WeightsNotFound,
    download,
    list_models,
    load_backbone,
    parse_name,
    places,
    tags,
)
from clipseg_ws.backbones.families import further
from clipseg_ws.backbones.openclip import OpenClipBackbone

TEXTS = ["a clean origami cat.", "a photo of a dog"]
MODEL_CFG = {  # of conftest.tiny_clip
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@cache
def noisy_clip(quick_gelu: bool = True) -> open_clip.CLIP:
    """``tiny_clip`` in which norms and biases are no ones and zeros; shared by the tests, so never changed."""
    model = tiny_clip(quick_gelu=quick_gelu)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def write_folder(path: Path, model=None, *, weights: str = "open_clip_model.safetensors", quick: bool = True, **config):
    """A folder in open_clip's format; ``config`` replaces entries of the configuration file."""
    model = noisy_clip(quick) if model is None else model
    content = {"model_cfg": {**MODEL_CFG, "quick_gelu": quick}, "preprocess_cfg": {}} | config
    (path / "open_clip_config.json").write_text(json.dumps(content))
    if weights.endswith(".safetensors"):
        save_file(model.state_dict(), path / weights)
    else:
        torch.save(model.state_dict(), path / weights)
    return model


def load(path: Path, **settings) -> OpenClipBackbone:
    return load_backbone(f"local-dir:{path}", **{"device": "cpu", "dtype": "float32", "offline": True, **settings})


@torch.no_grad()
def assert_same_numbers(backbone: OpenClipBackbone, model: open_clip.CLIP) -> None:
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(backbone.embed(pixels), model.encode_image(pixels), atol=1e-5, rtol=1e-5)
    text = model.encode_text(open_clip.tokenize(TEXTS), normalize=True)
    torch.testing.assert_close(backbone.embed_text(TEXTS), text, atol=1e-5, rtol=1e-5)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache of the hub, and sockets that count and refuse every connection."""
    from huggingface_hub import constants

    tried: list = []

    def refuse(self, address):
        tried.append(address)
        raise ConnectionRefusedError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: refuse(None, a[:2]))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tried


# ---- names ---------------------------------------------------------------------------------------------------------


def test_importing_the_package_imports_no_torch():
    code = "import sys, clipseg_ws.backbones as b; b.load_backbone; b.parse_name('nano'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.parametrize("entry", [*FAMILIES.values(), *MODELS.values(), *FEATURES.values()], ids=lambda e: e.home)
def test_every_function_of_the_registries_exists(entry):
    assert callable(entry.load())
    for what in ("fetch", "names"):
        assert what not in entry.about or callable(further(entry, what))
    if entry in FAMILIES.values():
        assert parse_name(entry.about["example"])[0] is entry


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("nano", ("nano", "nano")),
        ("photo", ("photo", "photo")),
        ("ViT-B-16-quickgelu/openai", ("open_clip", "ViT-B-16-quickgelu/openai")),
        ("hf:openai/clip-vit-base-patch16", ("hf", "openai/clip-vit-base-patch16")),
        ("local-dir:/a:b/c", ("local-dir", "/a:b/c")),
    ],
)
def test_the_four_forms_of_a_name(name, parsed):
    entry, rest = parse_name(name)
    assert (entry.name, rest) == parsed


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused_with_the_forms(name):
    try:
        entry, _ = parse_name(name)
    except ValueError as error:
        assert all(form in str(error) for form in ("ARCH/PRETRAINED", "hf:REPO", "local-dir:PATH", "nano"))
    else:
        assert FAMILIES[entry.name] is entry


@pytest.mark.parametrize("name", ["", "hf:", "local-dir:", "hf-hub:a/b", "nano:x"])
def test_names_of_no_form(name):
    with pytest.raises(ValueError, match="local-dir:PATH"):
        load_backbone(name, offline=True)


# ---- open_clip's table ---------------------------------------------------------------------------------------------


def test_the_listed_models_are_the_ones_the_issue_names():
    names = list_models()
    assert names[0] == "nano" and len(set(names)) == len(names)
    for name in (
        "ViT-B-32-quickgelu/openai", "ViT-B-16-quickgelu/openai", "ViT-L-14-quickgelu/openai",
        "ViT-L-14-336-quickgelu/openai", "ViT-B-32/laion2b_s34b_b79k", "ViT-B-16/laion2b_s34b_b88k",
        "ViT-L-14/laion2b_s32b_b82k", "ViT-H-14/laion2b_s32b_b79k", "ViT-g-14/laion2b_s34b_b88k",
        "ViT-bigG-14/laion2b_s39b_b160k", "ViT-B-16/datacomp_xl_s13b_b90k", "ViT-L-14/datacomp_xl_s13b_b90k",
        "ViT-B-16-quickgelu/metaclip_fullcc", "ViT-H-14/metaclip_altogether", "ViT-B-16-quickgelu/dfn2b",
        "ViT-H-14-quickgelu/dfn5b", "ViT-H-14-378-quickgelu/dfn5b",
        "ViT-B-16-SigLIP/webli", "ViT-B-16-SigLIP2/webli", "EVA02-B-16/merged2b_s8b_b131k", "PE-Core-B-16/meta",
        "MobileCLIP2-B/dfndr2b", "ViT-L-14-CLIPA/datacomp1b", "coca_ViT-B-32/laion2b_s13b_b90k",
        "ViT-H-14-worldwide-quickgelu/metaclip2_worldwide", "xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k",
        "ViTamin-S/datacomp1b",
    ):  # fmt: skip
        assert name in names
    others = ("RN", "convnext", "MobileCLIP-S", "MobileCLIP2-S")
    assert not [name for name in names if any(other in name for other in others)]


def test_gelu_of_every_listed_model_agrees_with_its_weights():
    for tag in tags.supported_tags():
        architecture, _, weights = tag.name.partition("/")
        assert architecture.endswith("-quickgelu") == bool(get_pretrained_cfg(architecture, weights).get("quick_gelu"))


def test_every_wrong_gelu_is_refused_and_the_right_name_given():
    wrong = [
        f"{architecture}/{weights}"
        for architecture, weights in open_clip.list_pretrained()
        if architecture.startswith("ViT") and get_pretrained_cfg(architecture, weights).get("quick_gelu")
        and not architecture.endswith("quickgelu") and "worldwide" not in architecture
    ]  # fmt: skip
    assert "ViT-B-16/openai" in wrong and "ViT-H-14/dfn5b" in wrong
    for name in wrong:
        architecture, _, weights = name.partition("/")
        right = f"{architecture}-quickgelu/{weights}"
        with pytest.raises(ValueError, match=f"use {right}$"):
            load_backbone(name, offline=True)
        assert tags.resolve_tag(right).name == right


def test_plain_gelu_weights_under_a_quick_gelu_name():
    with pytest.raises(ValueError, match=r"use ViT-B-16/laion2b_s34b_b88k$"):
        load_backbone("ViT-B-16-quickgelu/laion2b_s34b_b88k", offline=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ViT-B16-quickgelu/openai", "nearest are .*ViT-B-16-quickgelu"),
        ("ViT-B-16-quickgelu/opnai", "nearest are ViT-B-16-quickgelu/openai"),
        ("ViT-B-16-quickgelu", "missing after '/'.*ViT-B-16-quickgelu/openai.*ViT-B-16/laion2b"),
        ("ViT-B-16/nonsense_xyz", "all of them: ViT-B-16/.*ViT-B-16-quickgelu/openai"),
        ("ViT-S-16/openai", "nobody has published"),
    ],
)
def test_unknown_names_list_the_nearest(name, words):
    with pytest.raises(ValueError, match=words):
        load_backbone(name, offline=True)


def test_a_folder_given_without_its_prefix_is_recognised(tmp_path):
    with pytest.raises(ValueError, match=f"'local-dir:{tmp_path}'"):
        load_backbone(str(tmp_path), offline=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RN50-quickgelu/openai", "ResNet.*without attention.*ViT-B-16-quickgelu/openai"),
        ("convnext_base/laion400m_s13b_b51k", "ConvNeXt.*without attention.*ViT-B-16-quickgelu/openai"),
        ("MobileCLIP2-S0/dfndr2b", "FastViT.*use 'MobileCLIP2-B/dfndr2b'"),
    ],
)
def test_other_towers_are_refused_before_anything_is_fetched(no_network, name, words):
    with pytest.raises(UnsupportedBackbone, match=words):
        load_backbone(name)
    assert not no_network


def test_preprocessing_comes_from_the_table():
    assert tags.resolve_tag("ViT-L-14/laion2b_s32b_b82k").mean == (0.5, 0.5, 0.5)
    assert tags.resolve_tag("ViT-B-16-quickgelu/openai").mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    assert tags.resolve_tag("ViT-B-16/LAION2B-s34b-b88k").name == "ViT-B-16/laion2b_s34b_b88k"


def test_a_tag_is_loaded_from_its_file_with_its_preprocessing(tmp_path, monkeypatch):
    model = write_folder(tmp_path)
    row = tags.Tag("A/b", {**MODEL_CFG, "quick_gelu": True}, "some/repo", ("w",), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    monkeypatch.setattr(tags, "resolve_tag", {"A/b": row}.__getitem__)
    monkeypatch.setattr(tags, "tag_file", lambda tag, offline: tmp_path / "open_clip_model.safetensors")
    backbone = load_backbone("A/b", device="cpu", dtype="float32")
    assert_same_numbers(backbone, model)
    assert (backbone.name, backbone.mean, backbone.std) == ("A/b", row.mean, row.std)


# ---- folders in open_clip's format ---------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize(
    "weights", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin", "epoch_3.pt", "nano.safetensors"]
)
def test_folder_equals_the_library(tmp_path, weights, quick):
    model = write_folder(tmp_path, weights=weights, quick=quick)
    backbone = load(tmp_path)
    assert_same_numbers(backbone, model)
    assert backbone.name == f"local-dir:{tmp_path}" and backbone.dtype == torch.float32
    assert not backbone.model.training and not any(p.requires_grad for p in backbone.model.parameters())


def test_training_checkpoint_with_wrapped_names(tmp_path):
    model = write_folder(tmp_path, weights="open_clip_model.safetensors")
    (tmp_path / "open_clip_model.safetensors").unlink()
    state = {f"module.{key}": value for key, value in model.state_dict().items()}
    torch.save({"epoch": 3, "name": "run", "state_dict": state}, tmp_path / "epoch_3.pt")
    assert_same_numbers(load(tmp_path), model)


def test_custom_text_layout_is_the_same_model(tmp_path):
    torch.manual_seed(0)
    model = open_clip.model.CustomTextCLIP(**MODEL_CFG, quick_gelu=True).eval()
    write_folder(tmp_path, model, model_cfg={**MODEL_CFG, "quick_gelu": True, "custom_text": True})
    assert_same_numbers(load(tmp_path), model)


def test_open_clips_own_loader_agrees(tmp_path):
    """The folder is what open_clip writes: its own factory reads it to the same numbers."""
    write_folder(tmp_path, preprocess_cfg={"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "size": [64, 64]})
    model = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    backbone = load(tmp_path)
    assert_same_numbers(backbone, model)
    assert backbone.mean == tuple(model.visual.image_mean) and backbone.std == tuple(model.visual.image_std)


def test_loading_draws_no_random_numbers_and_logs_nothing(tmp_path, caplog, capsys):
    write_folder(tmp_path)
    torch.manual_seed(7)
    want = torch.rand(3)
    torch.manual_seed(7)
    with caplog.at_level(0):
        load(tmp_path)
    assert torch.equal(torch.rand(3), want)
    assert not caplog.records and capsys.readouterr() == ("", "")


def test_low_precision_keeps_the_logit_scale(tmp_path):
    model = deepcopy(noisy_clip())
    model.logit_scale.data.fill_(4.6052)  # bfloat16 would make 98.9 of 100
    write_folder(tmp_path, model)
    backbone = load(tmp_path, dtype="bfloat16")
    assert backbone.dtype == torch.bfloat16 and backbone.logit_scale == pytest.approx(100, abs=0.01)
    pixels = torch.randn(2, 3, 64, 96)
    tokens = backbone.encode(pixels, attention_blocks=2)
    assert tokens.last_input.shape == (2, 25, 64) and tokens.last_input.isfinite().all()
    near = torch.nn.functional.cosine_similarity(backbone.embed_text(TEXTS), load(tmp_path).embed_text(TEXTS))
    assert near.min() > 0.99


def test_half_precision_file_is_read_to_float32(tmp_path):
    model = deepcopy(noisy_clip()).half()
    write_folder(tmp_path, model, weights="nano.safetensors")
    assert_same_numbers(load(tmp_path), model.float())


def test_position_interpolation_is_passed_on(tmp_path):
    write_folder(tmp_path)
    assert load(tmp_path, position_interpolation="bilinear").position_interpolation == "bilinear"
    with pytest.raises(ValueError, match="bicubic-offset"):
        load(tmp_path, position_interpolation="nearest")


def test_nano_is_read_from_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "EMBEDDED", tmp_path)
    with pytest.raises(FileNotFoundError, match="install clipseg_ws again"):
        load_backbone("nano")
    model = deepcopy(noisy_clip()).half()
    (tmp_path / "nano").mkdir()
    write_folder(tmp_path / "nano", model, weights="nano.safetensors")
    backbone = load_backbone("nano", device="cpu", dtype="float32")
    assert_same_numbers(backbone, model.float())
    assert download("nano") == [tmp_path / "nano" / "nano.safetensors"]


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vision", "text", "words"),
    [
        ({"attentional_pool": "parallel"}, {}, "pools twice by attention"),
        ({"pool_type": "none"}, {}, "pools by 'none'"),
        ({"qk_norm": True}, {}, "qk_norm"),
        ({"scale_fc": True}, {}, "scale_fc"),
        ({"layers": [3, 4, 6, 3]}, {}, "ResNet"),
        ({"timm_model_name": "swin_tiny_patch4_window7_224"}, {}, "swin_transformer"),
        ({"timm_model_name": "vit_of_nobody"}, {}, "unknown to this timm"),
        ({"patch_size": [16, 8]}, {}, "patches"),
        ({}, {"vocab_size": 32000}, "tokenizer"),
        ({}, {"pool_type": "none"}, "does not pool"),
        ({}, {"tokenizer_kwargs": {"reduction_mask": "random"}}, "reduction_mask"),
    ],
)
def test_folders_with_other_towers(tmp_path, vision, text, words):
    cfg = {
        "embed_dim": 32,
        "vision_cfg": MODEL_CFG["vision_cfg"] | vision,
        "text_cfg": MODEL_CFG["text_cfg"] | text,
    }
    write_folder(tmp_path, model_cfg=cfg)
    with pytest.raises(UnsupportedBackbone, match=words):
        load(tmp_path)


def test_training_time_settings_do_not_matter(tmp_path):
    vision = MODEL_CFG["vision_cfg"] | {"patch_dropout": 0.5, "output_tokens": True}
    model = write_folder(tmp_path, model_cfg={**MODEL_CFG, "vision_cfg": vision, "quick_gelu": True})
    backbone = load(tmp_path)
    assert_same_numbers(backbone, model)
    assert_same_numbers(backbone, backbone.model)  # open_clip's own forward gives one tensor and drops no patch


def test_a_folder_with_both_formats_is_read_as_open_clips(tmp_path):
    model = write_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    (tmp_path / "model.safetensors").write_bytes(b"transformers' weights")
    assert_same_numbers(load(tmp_path), model)


def test_unknown_settings_name_the_file(tmp_path):
    write_folder(tmp_path, model_cfg={**MODEL_CFG, "new_thing": 1})
    with pytest.raises(ValueError, match=r"open_clip_model.safetensors.*new_thing"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("preprocess", "words"),
    [
        ({"size": 224}, "224x224.*64x64"),
        ({"size": [64, 96]}, "64x96.*64x64"),
        ({"mean": [122.7, 116.7, 104.0]}, "mean"),
        ({"std": [0.2, 0.2]}, "std"),
    ],
)
def test_preprocessing_that_contradicts_the_model(tmp_path, preprocess, words):
    write_folder(tmp_path, preprocess_cfg=preprocess)
    with pytest.raises(ValueError, match=words):
        load(tmp_path)


def test_position_table_of_another_size_is_not_resized_silently(tmp_path):
    write_folder(tmp_path, tiny_clip(image_size=96))
    with pytest.raises(ValueError, match=r"64x64 pixels.*image_size 96 would fit 6x6"):
        load(tmp_path)


def test_missing_files_show_the_expected_tree(tmp_path):
    tree = r"(?s)open_clip_config.json \+ open_clip_model.safetensors.*config.json \+ model.safetensors"
    empty, file = tmp_path / "empty", tmp_path / "f.pt"
    empty.mkdir()
    file.touch()
    for path, words in ((empty, "holds nothing"), (tmp_path / "no", "no folder"), (file, "is a file")):
        with pytest.raises(FileNotFoundError, match=tree) as caught:
            load(path)
        assert words in str(caught.value)


def test_several_weight_files_are_not_guessed_between(tmp_path):
    model = write_folder(tmp_path, weights="epoch_1.pt")
    torch.save(model.state_dict(), tmp_path / "epoch_2.pt")
    with pytest.raises(ValueError, match=r"epoch_1.pt, epoch_2.pt.*open_clip_model.safetensors"):
        load(tmp_path)


class Bomb:
    """A pickle that would make a folder when opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    write_folder(tmp_path, weights="epoch_1.pt")
    torch.save({"state_dict": {}, "extra": Bomb(tmp_path / "boom")}, tmp_path / "epoch_1.pt")
    with pytest.raises(ValueError, match=r"epoch_1.pt is refused.*could run code.*safetensors"):
        load(tmp_path)
    assert not (tmp_path / "boom").exists()


def test_a_torchscript_archive_is_refused_with_advice(tmp_path):
    write_folder(tmp_path, weights="model.pt")
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:  # the members torch.jit.save writes
        for member in ("model/data.pkl", "model/code/__torch__.py", "model/constants.pkl", "model/version"):
            archive.writestr(member, b"")
    with pytest.raises(ValueError, match=r"TorchScript.*ViT-B-16-quickgelu/openai"):
        load(tmp_path)


@pytest.mark.parametrize("weights", ["open_clip_model.safetensors", "epoch_1.pt"])
@pytest.mark.parametrize("content", [b"version https://git-lfs.github.com/spec/v1", b"", b"\x80\x04."])
def test_damaged_files(tmp_path, weights, content):
    write_folder(tmp_path, weights=weights)
    (tmp_path / weights).write_bytes(content)
    with pytest.raises(ValueError, match=f"{weights}.*(damaged|refused)"):
        load(tmp_path)


def test_a_pt_file_that_holds_no_state_dict(tmp_path):
    write_folder(tmp_path, weights="epoch_1.pt")
    torch.save([torch.ones(2)], tmp_path / "epoch_1.pt")
    with pytest.raises(ValueError, match="holds no state dict"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"vision_cfg": {}}'])
def test_broken_configuration_files(tmp_path, content):
    write_folder(tmp_path)
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(ValueError, match=r"open_clip_config.json|no embed_dim"):
        load(tmp_path)


def test_float16_on_a_cpu_is_refused_before_the_weights_are_read():
    with pytest.raises(ValueError, match=r"float16.*CPU"):
        load_backbone("local-dir:/nowhere", device="cpu", dtype="float16")


# ---- without the network (with one: test_hub.py) -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["argument", "environment"])
@pytest.mark.parametrize("name", ["ViT-B-16-quickgelu/openai", "hf:openai/clip-vit-base-patch16"])
def test_missing_weights_while_offline_say_what_to_do(no_network, monkeypatch, tmp_path, name, how):
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsNotFound, match=f"clipseg-ws download {name}") as caught:
        load_backbone(name, device="cpu", offline=how == "argument")
    assert str(tmp_path / "hub") in str(caught.value) and "nano" in str(caught.value)
    assert not no_network


def test_hf_home_in_the_environment_is_honoured(tmp_path):
    """The same through a fresh process, as a user meets it."""
    code = "from clipseg_ws.backbones import load_backbone as l\ntry: l('ViT-B-16-quickgelu/openai', offline=True)\n"
    code += "except FileNotFoundError as error: print(error)"
    env = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    env.pop("HF_HUB_CACHE", None)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env).stdout
    assert "clipseg-ws download ViT-B-16-quickgelu/openai" in out and str(tmp_path / "home") in out


def test_a_repository_name_that_cannot_be_one(no_network):
    with pytest.raises(ValueError, match=r"hf:.*for example 'hf:openai"):
        load_backbone("hf:a/b/c/d", offline=True)


def test_local_folders_are_not_downloaded():
    with pytest.raises(ValueError, match="on this machine already"):
        download("local-dir:/x")
