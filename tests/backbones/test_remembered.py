"""Digests of weights: computed once for files that stay as they are, known without loading them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import save_tiny_hybrid

from clipseg_ws.backbones import common, known_digest, load_backbone
from clipseg_ws.backbones.remembered import KEPT, recall, remember, state_of


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Models whose weights were hashed."""
    seen: list[object] = []
    inner = common.weights_digest
    monkeypatch.setattr("clipseg_ws.backbones.openclip.weights_digest", lambda m: seen.append(m) or inner(m))
    return seen


def test_a_file_is_hashed_once(tmp_path: Path, counted: list[object]) -> None:
    folder = tmp_path / "model"
    save_tiny_hybrid(folder)
    name = f"local-dir:{folder}"
    assert known_digest(name) is None
    digest = load_backbone(name, device="cpu").weights_sha256
    assert len(counted) == 1 and known_digest(name) == digest
    for dtype in ("float32", "bfloat16"):
        assert load_backbone(name, device="cpu", dtype=dtype).weights_sha256 == digest
    assert len(counted) == 1


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_config.json"])
def test_a_changed_file_is_hashed_again(tmp_path: Path, counted: list[object], file: str) -> None:
    folder = tmp_path / "model"
    save_tiny_hybrid(folder)
    load_backbone(f"local-dir:{folder}", device="cpu")
    state = (folder / file).stat()
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data)  # same size
    os.utime(folder / file, ns=(state.st_atime_ns, state.st_mtime_ns))  # and the same time, set back
    assert known_digest(f"local-dir:{folder}") is None, "the time of change tells"
    load_backbone(f"local-dir:{folder}", device="cpu")
    assert len(counted) == 2


def test_what_cannot_be_kept_or_read_is_no_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    (cache / "weights.json").write_text("{half")
    assert recall("digest", "a") is None
    remember("digest", "a", "1")
    assert recall("digest", "a") == "1" and recall("tag", "a") is None
    (cache / "weights.json").write_text(json.dumps({f"digest {number}": number for number in range(KEPT)}))
    remember("digest", "new", 1)
    assert recall("digest", "new") == 1 and recall("digest", "0") is None and recall("digest", "1") == 1
    (cache / "file").write_text("")
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(cache / "file"))
    remember("digest", "a", "1")
    assert recall("digest", "a") is None and state_of([cache / "missing"]) is None and state_of([]) is None
