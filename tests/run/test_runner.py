"""Folders of pictures: everything is written once, failures are listed, a rerun continues."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.run.embeddings import pooled_embeddings
from clipseg_ws.run.folder import run_folder


@pytest.fixture(scope="module")
def segmenter(tiny_backbone, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter(backbone=tiny_backbone, attention_blocks=2, batch_size=3)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Seven pictures of two sizes in two folders, one of them broken."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        size = (48, 64, 3) if i % 2 else (64, 48, 3)
        place = folder / ("sub" if i > 3 else ".") / f"p{i}.png"
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(place)
    (folder / "broken.jpg").write_text("not a picture")
    return folder


def test_everything_is_written_and_the_bad_one_listed(segmenter, photos, tmp_path):
    out = tmp_path / "out"
    seen = []
    summary = run_folder(
        segmenter, list_sources(photos), out, segmenter.ask("cat; dog"), on_result=lambda s, r: seen.append(str(s))
    )
    assert (summary.total, summary.done, summary.failed, summary.skipped) == (7, 6, 1, 0)
    assert len(seen) == 6 == len(set(seen))
    assert (
        (out / "p0.png").exists() and (out / "sub" / "p4_overlay.png").exists() and (out / "sub" / "p5.json").exists()
    )
    rows = list(csv.DictReader((out / "errors.csv").open()))
    assert len(rows) == 1 and rows[0]["image"].endswith("broken.jpg") and rows[0]["error"] == "ImageError"
    assert not [p for p in out.rglob("*") if "tmp" in p.name]
    assert sum(summary.pixels.values()) == pytest.approx(6 * 48 * 64)
    for i in (0, 1):  # the same as asking for the picture alone
        alone = segmenter(str(photos / f"p{i}.png"), classes="cat; dog")
        assert np.array_equal(read_label_png(out / f"p{i}.png"), alone.labels)


def test_rerun_does_only_what_is_missing(segmenter, photos, tmp_path):
    out = tmp_path / "out"
    run_folder(segmenter, list_sources(photos), out, segmenter.ask("cat; dog"), formats=("png",))
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.png")}
    (out / "p1.png").unlink()
    (photos / "broken.jpg").unlink()
    summary = run_folder(segmenter, list_sources(photos), out, segmenter.ask("cat; dog"), formats=("png",))
    assert (summary.done, summary.skipped, summary.failed) == (1, 5, 0)
    assert not (out / "errors.csv").exists()
    assert all(p.stat().st_mtime_ns == t for p, t in before.items() if p.name != "p1.png")
    question = segmenter.ask("cat; dog")
    again = run_folder(segmenter, list_sources(photos), out, question, formats=("png",), overwrite=True)
    assert again.done == 6


def test_tags_per_picture_and_a_missing_one(segmenter, photos, tmp_path):
    (photos / "broken.jpg").unlink()

    def tags(source):
        if source.relative.name == "p3":
            raise ValueError("no tags for p3")
        return ["dog"] if source.relative.name == "p1" else ["cat"]

    summary = run_folder(segmenter, list_sources(photos), tmp_path / "out", segmenter.ask("cat; dog"), tags=tags)
    assert (summary.done, summary.failed) == (5, 1)
    assert set(np.unique(read_label_png(tmp_path / "out" / "p1.png"))) <= {0, 2}
    assert "no tags for p3" in (tmp_path / "out" / "errors.csv").read_text()


def test_wrong_classes_stop_at_once(segmenter, photos, tmp_path):
    with pytest.raises(ValueError):
        run_folder(segmenter, list_sources(photos), tmp_path / "out", segmenter.ask(""))
    assert not (tmp_path / "out").exists()


def test_pooled_embeddings(segmenter, photos):
    embeddings, kept = pooled_embeddings(segmenter, list_sources(photos))
    assert embeddings.shape == (6, 32) and len(kept) == 6
    with pytest.raises(ValueError, match="none of the 1"):
        pooled_embeddings(segmenter, list_sources(photos / "broken.jpg"))


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from conftest import tiny_clip
from clipseg_ws import Segmenter
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.run.folder import run_folder
from clipseg_ws.pictures.sources import list_sources
segmenter = Segmenter(backbone=OpenClipBackbone(tiny_clip()), attention_blocks=2, batch_size=2)
print("ready", flush=True)
seen = []


def wait_to_be_killed(source, result):
    seen.append(source)
    if len(seen) > 20:
        time.sleep(600)


run_folder(segmenter, list_sources({photos!r}), {out!r}, segmenter.ask("cat"), on_result=wait_to_be_killed)
"""


def test_kill_and_rerun_completes(segmenter, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    rng = np.random.default_rng(1)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).save(photos / f"{i:02d}.png")
    out = tmp_path / "out"
    code = KILLED.format(tests=str(Path(__file__).parents[1]), photos=str(photos), out=str(out))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=os.environ | {"CLIPSEG_WS_CACHE": str(tmp_path / "c")}
    )
    assert process.stdout is not None and process.stdout.readline().strip() == b"ready"
    while not len(list(out.glob("*.json"))) > 5:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {p: p.stat().st_mtime_ns for p in out.glob("[0-9][0-9].json")}
    assert 5 < len(done) < 40
    for path in out.glob("[0-9][0-9].png"):
        Image.open(path).load()  # no half-written file
    summary = run_folder(segmenter, list_sources(photos), out, segmenter.ask("cat"))
    assert summary.skipped + summary.done == 40 and summary.skipped >= len(done) - 1
    assert len(list(out.glob("[0-9][0-9].png"))) == 40
