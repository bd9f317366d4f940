"""SIGTERM is like Ctrl+C: whatever is written is whole, one line says how to go on, the exit status is the signal's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipseg_ws.fewshot.bank import load_bank
from clipseg_ws.files import TEMPORARY

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
COUNT = 40


def command(*words: object, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "clipseg_ws", *map(str, words)], stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, **more,
    )  # fmt: skip


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(COUNT):
        pixels = np.random.default_rng(i).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{i:02}.png")
    return folder


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_is_stopped_and_goes_on(photos, tmp_path, number, status):
    out = tmp_path / "out"
    words = ("predict", photos, "-c", "house; tree", "--model", "nano", "-o", out, "--format", "png,json",
             "--batch-size", "1", "--workers", "1")  # fmt: skip
    child = command(*words)
    end = time.time() + 240
    while len(list(out.glob("p*.json"))) < 2 and child.poll() is None and time.time() < end:
        time.sleep(0.02)
    child.send_signal(number)
    _, said = child.communicate(timeout=240)
    done = sorted(file.stem for file in out.glob("p*.json"))
    if child.returncode == 0:
        pytest.skip("the run was faster than the signal")
    assert child.returncode == status, said
    assert "the same command goes on where it was" in said and "Traceback" not in said
    assert 2 <= len(done) < COUNT and not [p for p in out.rglob("*") if p.name.startswith(TEMPORARY)]
    for stem in done:
        json.loads((out / f"{stem}.json").read_text())
        with Image.open(out / f"{stem}.png") as image:
            image.load()
    times = {stem: (out / f"{stem}.json").stat().st_mtime_ns for stem in done}
    again = command(*words)
    _, said = again.communicate(timeout=400)
    assert again.returncode == 0, said
    assert len(list(out.glob("p*.json"))) == COUNT
    assert all((out / f"{stem}.json").stat().st_mtime_ns == times[stem] for stem in done)


def test_two_commands_that_extend_one_bank_lose_nothing(photos, tmp_path):
    mask = np.zeros((96, 96), np.uint8)
    mask[20:60, 20:60] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    bank = tmp_path / "bank.safetensors"
    started = [
        command("fewshot", "--support", photos / f"p{i:02}.png", tmp_path / "mask.png", label, "--bank", bank,
                "--model", "nano")
        for i, label in enumerate(("cat", "dog"))
    ]  # fmt: skip
    for child in started:
        _, said = child.communicate(timeout=400)
        assert child.returncode == 0, said
    assert sorted(load_bank(bank).labels) == ["cat", "dog"]
