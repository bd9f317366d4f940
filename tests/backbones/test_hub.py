"""Downloads and the cache, against a small model hub that this file serves on the loopback."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from conftest import tiny_clip
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from clipseg_ws.backbones import UnsupportedBackbone, WeightsNotFound, cached_weights, download, load_backbone

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OPENAI = "timm/vit_base_patch16_clip_224.openai"  # where open_clip's table has ViT-B-16-quickgelu/openai


class Hub:
    """Repositories below ``root`` as a hub serves them; ``asked`` lists the requests."""

    def __init__(self, root: Path) -> None:
        self.root, self.asked = root, []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                self.answer(body=False)

            def do_GET(self):
                self.answer(body=True)

            def log_message(self, *_):
                pass

            def answer(self, body: bool) -> None:
                hub.asked.append(self.path)
                content = hub.content(self.path.partition("?")[0])
                self.send_response(404 if content is None else 200)
                if content is None:
                    self.send_header("X-Error-Code", "RepoNotFound")
                content = content or b""
                self.send_header("Content-Length", str(len(content)))
                self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.end_headers()
                if body:
                    self.wfile.write(content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def content(self, path: str) -> bytes | None:
        """The answer to one request, None for 404."""
        if path.startswith("/api/models/"):
            repo = "/".join(path.split("/")[3:5])
            files = sorted(f for f in (self.root / repo).glob("*") if f.is_file())
            if not files:
                return None
            if "/tree/" in path:
                rows = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40} for f in files]
                return json.dumps(rows).encode()
            names = [{"rfilename": f.name} for f in files]
            return json.dumps({"id": repo, "sha": COMMIT, "siblings": names, "tags": [], "private": False}).encode()
        file = self.root / path.replace(f"/resolve/{COMMIT}/", "/").replace("/resolve/main/", "/").lstrip("/")
        return file.read_bytes() if file.is_file() else None


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running hub with an empty cache; the hub's client talks to nobody else."""
    from huggingface_hub import constants

    hub = Hub(tmp_path / "served")
    url = f"http://127.0.0.1:{hub.server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


def serve(hub: Hub, repo: str) -> Path:
    (hub.root / repo).mkdir(parents=True)
    return hub.root / repo


def serve_transformers(hub: Hub, repo: str, **settings) -> CLIPModel:
    tower = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={"hidden_size": 48, "image_size": 32, "patch_size": 16, **tower},
        text_config={"hidden_size": 32, **tower},
        projection_dim=24,
    )
    model = CLIPModel(config).eval()
    model.save_pretrained(serve(hub, repo), **settings)
    return model


def test_a_tag_is_downloaded_once_and_then_used_without_the_network(hub):
    folder = serve(hub, OPENAI)
    for name in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors"):
        (folder / name).write_bytes(name.encode())
    (path,) = download("ViT-B-16-quickgelu/openai")
    assert path.read_bytes() == b"open_clip_model.safetensors"  # the safe file, and only it
    assert [f.name for f in path.parent.iterdir()] == [path.name]
    from clipseg_ws.backbones import tags

    hub.asked.clear()
    assert tags.tag_file(tags.resolve_tag("ViT-B-16-quickgelu/openai")) == path
    assert tags.tag_file(tags.resolve_tag("ViT-B-16-quickgelu/openai"), offline=True, refresh=True) == path
    assert not hub.asked
    assert cached_weights() == [("ViT-B-16-quickgelu/openai", path, 27)]


def test_the_pickle_is_the_second_choice(hub):
    (serve(hub, OPENAI) / "open_clip_pytorch_model.bin").write_bytes(b"old")
    assert download("ViT-B-16-quickgelu/openai")[0].name == "open_clip_pytorch_model.bin"


@pytest.mark.parametrize("settings", [{}, {"max_shard_size": "2MB"}])
def test_a_transformers_repository(hub, settings):
    model = serve_transformers(hub, "someone/clip", **settings)
    (hub.root / "someone/clip" / "flax_model.msgpack").write_bytes(b"not wanted")
    backbone = load_backbone("hf:someone/clip", device="cpu", dtype="float32")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        want = model.get_image_features(pixel_values=pixels)
    want = want if isinstance(want, torch.Tensor) else want.pooler_output
    torch.testing.assert_close(backbone.embed(pixels), want, atol=1e-5, rtol=1e-5)
    assert not [path for path in hub.asked if "msgpack" in path]
    hub.asked.clear()
    load_backbone("hf:someone/clip", device="cpu", offline=True)
    assert not hub.asked
    (entry,) = cached_weights()
    files = [f for f in (hub.root / "someone/clip").iterdir() if f.suffix == ".safetensors"]
    assert (entry.name, entry.size) == ("hf:someone/clip", sum(f.stat().st_size for f in files))
    assert entry.path.is_dir() == bool(settings)


def test_an_open_clip_repository_is_preferred_in_that_format(hub):
    serve_transformers(hub, "someone/both")
    model, folder = tiny_clip(), hub.root / "someone/both"
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    vision = {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    config = {"model_cfg": {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    backbone = load_backbone("hf:someone/both", device="cpu", dtype="float32")
    assert (backbone.width, backbone.depth) == (64, 3)
    assert not [path for path in hub.asked if path.endswith("/model.safetensors")]


def test_an_interrupted_download_is_completed(hub):
    serve_transformers(hub, "someone/clip", max_shard_size="2MB")
    (folder,) = download("hf:someone/clip")
    next(folder.glob("model-00001*")).unlink()
    with pytest.raises(WeightsNotFound, match="clipseg-ws download hf:someone/clip"):
        load_backbone("hf:someone/clip", offline=True)
    assert cached_weights() == []
    load_backbone("hf:someone/clip", device="cpu")


def test_an_unsupported_repository_is_refused_before_its_weights_are_fetched(hub):
    folder = serve(hub, "someone/blip")
    (folder / "config.json").write_text(json.dumps({"model_type": "blip"}))
    (folder / "model.safetensors").write_bytes(b"large")
    with pytest.raises(UnsupportedBackbone, match="'blip'"):
        load_backbone("hf:someone/blip")
    assert not [path for path in hub.asked if path.endswith("model.safetensors")]


def test_a_repository_without_weights(hub):
    (serve(hub, "someone/empty") / "config.json").write_text(json.dumps({"model_type": "clip"}))
    with pytest.raises(WeightsNotFound, match=r"none of model.safetensors"):
        load_backbone("hf:someone/empty")
    (serve(hub, OPENAI) / "README.md").write_text("nothing here")
    with pytest.raises(WeightsNotFound, match=r"none of open_clip_model.safetensors"):
        load_backbone("ViT-B-16-quickgelu/openai")


def test_a_repository_that_is_not_there(hub):
    with pytest.raises(WeightsNotFound, match=r"no repository 'some/typo'.*hf auth login"):
        load_backbone("hf:some/typo")


@pytest.mark.parametrize("name", ["ViT-B-16-quickgelu/openai", "hf:someone/clip"])
def test_a_hub_that_cannot_be_reached_is_told_within_seconds(hub, monkeypatch, tmp_path, name):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: refused at once
    start = time.monotonic()
    with pytest.raises(WeightsNotFound, match=f"clipseg-ws download {name}") as caught:
        load_backbone(name)
    assert time.monotonic() - start < 5
    assert str(tmp_path / "cache") in str(caught.value) and "connection" in str(caught.value)


def test_no_cache_is_no_error(hub):
    assert cached_weights() == []
