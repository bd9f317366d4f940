"""What an earlier run left empty, cut off or foreign is named with what to do about it; nothing of it is believed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import torch
from own_errors import is_own
from safetensors.torch import save_file

from clipseg_ws.backbones import load_backbone
from clipseg_ws.door import InputError
from clipseg_ws.fewshot.bank import BankError, load_bank
from clipseg_ws.heads.checkpoint import load_checkpoint, save_checkpoint
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.file import load_head
from clipseg_ws.heads.store import DATA, INDEX, SPEC, TokenStore
from clipseg_ws.pictures.images import to_image

SPEC_OF = FeatureSpec(blocks=(-1,), short_side=32)
PICTURES = {f"p{i}": np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in range(4)}


def load(name):
    return to_image(PICTURES[name])


@pytest.fixture(scope="module")
def nano():
    return load_backbone("nano", device="cpu")


@pytest.fixture(scope="module")
def whole(nano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens") / "whole"
    store = TokenStore(folder, nano, SPEC_OF)
    assert store.build(list(PICTURES), load, batch_size=1) == 4
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "t")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04cut", b"\x80\x02junk", b"0" * 3000])
def test_a_spoilt_checkpoint(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint\.pt.*delete it; the training then begins anew") as caught:
        load_checkpoint(path, {}, torch.device("cpu"))
    assert is_own(caught.value)


def test_a_foreign_and_a_cut_checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"weights": 1}, path)
    with pytest.raises(InputError, match="holds no settings; delete it"):
        load_checkpoint(path, {}, torch.device("cpu"))
    save_checkpoint({"settings": {"a": 1}, "step": 3}, path)
    assert load_checkpoint(path, {"a": 1}, torch.device("cpu"))["step"] == 3
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="delete it"):
        load_checkpoint(path, {"a": 1}, torch.device("cpu"))


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint({"settings": {}, "step": 1}, path)

    def full(state, file):
        file.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"the one before is whole: make room"):
        save_checkpoint({"settings": {}, "step": 2}, path)
    assert load_checkpoint(path, {}, torch.device("cpu"))["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.skipif(shutil.which("mount") is None or not hasattr(os, "geteuid"), reason="no mount here")
def test_a_disk_that_is_really_full(tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("only root may mount a small tmpfs, where the machine allows it")
    try:
        save_checkpoint({"settings": {}, "step": 1}, place / "c.pt")
        with pytest.raises(OSError, match="the one before is whole: make room"):
            save_checkpoint({"settings": {}, "step": 2, "weights": torch.zeros(200_000)}, place / "c.pt")
        assert load_checkpoint(place / "c.pt", {}, torch.device("cpu"))["step"] == 1
        assert [file.name for file in place.iterdir()] == ["c.pt"]
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_tokens_behind_the_end_of_the_file_are_made_again(nano, whole, folder):
    """Before, the file was made longer with zeros, and trained on."""
    before = TokenStore(whole, nano, SPEC_OF).read(list(PICTURES))
    size = (folder / DATA).stat().st_size
    with open(folder / DATA, "r+b") as file:
        file.truncate(size - 5)
    store = TokenStore(folder, nano, SPEC_OF)
    assert list(store.entries) == ["p0", "p1", "p2"]
    assert store.build(list(PICTURES), load, batch_size=1) == 1
    assert torch.equal(store.read(list(PICTURES)), before)
    assert len((folder / INDEX).read_text().splitlines()) == 4 and (folder / DATA).stat().st_size == size
    assert list(TokenStore(folder, nano, SPEC_OF).entries) == list(PICTURES)


@pytest.mark.parametrize("size", [0, 1])
def test_empty_tokens_are_made_again(nano, whole, folder, size):
    (folder / DATA).write_bytes(b"x" * size)
    store = TokenStore(folder, nano, SPEC_OF)
    assert not store.entries and store.build(list(PICTURES), load, batch_size=1) == 4
    assert torch.equal(store.read(["p3"]), TokenStore(whole, nano, SPEC_OF).read(["p3"]))


@pytest.mark.parametrize(
    "line",
    [b"{}", b"nonsense", b"[1]", b'{"name": "x", "grid": [0, 4], "offset": 0}',
     b'{"name": 7, "grid": [4, 4], "offset": 0}',
     b'{"name": "x", "grid": [4, 4], "offset": 99}', b'{"name": "x", "grid": [999999999, 4], "offset": 0}',
     b'{"name": "x", "grid": [1e999, 4], "offset": 0}', b"\xff\xfe\x00"],
)  # fmt: skip
def test_a_foreign_index_is_named(nano, folder, line):
    (folder / INDEX).write_bytes(line + b"\n")
    with pytest.raises(InputError, match=r"index\.jsonl.*delete the folder"):
        TokenStore(folder, nano, SPEC_OF)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"weights_sha256": 1}'])
def test_a_spoilt_spec_is_named(nano, folder, text):
    (folder / SPEC).write_text(text)
    with pytest.raises(ValueError, match="delete"):
        TokenStore(folder, nano, SPEC_OF)


def test_two_writers_see_one_another(nano, tmp_path):
    """A store that another process has filled meanwhile is read again before anything is written."""
    first, second = (TokenStore(tmp_path / "t", nano, SPEC_OF) for _ in range(2))
    assert first.build(["p0", "p1"], load, batch_size=1) == 2
    assert second.build(["p1", "p2"], load, batch_size=1) == 1
    third = TokenStore(tmp_path / "t", nano, SPEC_OF)
    assert list(third.entries) == ["p0", "p1", "p2"]
    alone = TokenStore(tmp_path / "u", nano, SPEC_OF)
    alone.build(["p2"], load, batch_size=1)
    assert torch.equal(third.read(["p2"]), alone.read(["p2"]))


HEAD = {
    "format": "clipseg_ws head 1", "classes": '["a"]', "backbone": "nano", "weights_sha256": "0" * 64, "width": "64",
    "features": json.dumps(SPEC_OF.as_dict()), "kind": "linear", "options": "{}", "training": "{}",
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{"width": "1000000000"}, {"width": "1e999"}, {"width": '"x"'}, {"classes": "7"}, {"classes": "[" * 5000},
     {"kind": "none"}, {"kind": "decoder", "options": '{"depth": 1000000}'}, {"options": "{"}, {"features": "{}"},
     {"kind": "decoder", "options": '{"hidden": 99999999}'}, {"extra": "1"}, {}],
)  # fmt: skip
def test_a_foreign_head_is_refused_before_it_is_built(tmp_path, change):
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "h.safetensors", metadata=HEAD | change)
    with pytest.raises(ValueError, match=r"h\.safetensors") as caught:
        load_head(tmp_path / "h.safetensors")
    assert is_own(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"x" * 9, b"\xff" * 8 + b"{}", b"\x02" + b"\0" * 7 + b"{}"])
def test_damaged_heads_and_banks(tmp_path, content):
    path = tmp_path / "f.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"f\.safetensors"):
        load_head(path) if content[:1] != b"\x02" else load_bank(path)
    with pytest.raises(BankError, match=r"f\.safetensors"):
        load_bank(path)


@pytest.mark.parametrize("about", ["{", "7", '{"format": 1}', "[" * 9000])
def test_a_foreign_bank(tmp_path, about):
    save_file({"a": torch.zeros(1)}, tmp_path / "b.safetensors", metadata={"clipseg_ws": about})
    with pytest.raises(BankError, match=r"b\.safetensors"):
        load_bank(tmp_path / "b.safetensors")
