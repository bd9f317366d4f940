"""A folder with pictures of every hostile kind: each is one row of errors.csv, the others are done, a rerun goes on."""

from __future__ import annotations

import csv
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.run.folder import run_folder


def declared(width: int, height: int) -> bytes:
    """A PNG whose header declares a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


BAD = {
    "long.png": declared(64_000_000, 1),
    "square.png": declared(17_320, 17_320),
    "empty.png": b"",
    "text.jpg": b"no picture",
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.fixture(scope="module")
def nano():
    return Segmenter("nano", dtype="float32")


def picture(path) -> None:
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)


def test_each_is_a_row_and_the_others_are_done(nano, tmp_path, monkeypatch):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name, data in BAD.items():
        (photos / name).write_bytes(data)
    picture(photos / "good.png")
    bad = set(BAD) | {f"{'n' * 251}.png"}  # with "_overlay" its results have no possible name
    picture(photos / f"{'n' * 251}.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(photos / "pipe.png")
        bad.add("pipe.png")
    sources = list_sources(photos)
    for run in range(2):
        summary = run_folder(nano, sources, out, nano.ask("house; tree"), formats=("png", "overlay"))
        rows = list(csv.DictReader((out / "errors.csv").open(encoding="utf-8", newline="")))
        assert {os.path.basename(row["image"]) for row in rows} == bad
        assert summary.failed == len(bad) and (summary.done, summary.skipped) == ((1, 0), (0, 1))[run]
        assert (out / "good.png").stat().st_size > 0
    said = {os.path.basename(row["image"]): row["message"] for row in rows}
    assert "64000000 x 1 pixels, at most 65535" in said["long.png"]
    assert "17320 x 17320 pixels, at most 100000000" in said["square.png"]


def test_whatever_a_decoder_raises_is_one_row(nano, tmp_path, monkeypatch):
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    prepare = nano.prepare

    def broken(image, source=None):
        if str(source).endswith("b.png"):
            raise Image.DecompressionBombError("too large")
        return prepare(image, source)

    monkeypatch.setattr(nano, "prepare", broken)
    summary = run_folder(nano, list_sources(tmp_path), tmp_path / "out", nano.ask("house"), formats=("png",))
    assert (summary.done, summary.failed) == (2, 1)
    assert "DecompressionBombError,too large" in (tmp_path / "out" / "errors.csv").read_text()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "shut").mkdir(mode=0)
    with pytest.warns(UserWarning, match="shut.*left out"):
        assert len(list_sources(tmp_path)) == 1
