"""2,000 pictures through ``clipseg-ws pseudo``, killed three times: complete, nothing twice, memory of a short run.

Slow (minutes), so it runs only where asked: ``pytest -m slow tests/test_pseudo_scale.py -s``. A process that ends by
itself peaks about 95 MB above one that is killed: the interpreter's own clean-up of torch, whatever the pictures.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipseg_ws.files import TEMPORARY

COUNT, SHORT, KILLS = 2000, 200, (400, 900, 1400)
COMMAND = "from clipseg_ws.cli.app import main; main()"
OPTIONS = ["--tags", "house; tree", "--model", "nano", "--dtype", "float32", "--refine", "guided"]
OPTIONS += ["--confidence", "0.5", "--set", "short_side=96"]


def copies(folder: Path, count: int) -> Path:
    """``count`` files of four small pictures, lying and standing."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(4):
        shape = (72, 96, 3) if i % 2 else (96, 72, 3)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"p{i:05d}.png")
    for i in range(4, count):
        shutil.copy(folder / f"p{i % 4:05d}.png", folder / f"p{i:05d}.png")
    return folder


def finished(out: Path) -> dict[str, tuple[int, int]]:
    """Name -> (inode, time) of every mask whose confidence lies beside it."""
    names = set(os.listdir(out / "masks")) if (out / "masks").is_dir() else set()
    masks = (out / "masks" / n for n in names if "_confidence" not in n and n.endswith(".png"))
    stats = {p.name: p.stat() for p in masks if f"{p.stem}_confidence.png" in names and not p.name.startswith(".")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def run(photos: Path, out: Path, kill_at: int | None = None) -> tuple[int, float, float]:
    """(status, peak memory in MB, seconds) of one run, killed once ``kill_at`` pictures are complete."""
    arguments = [sys.executable, "-c", COMMAND, "pseudo", str(photos), "-o", str(out), *OPTIONS]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = time.perf_counter()
    child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    while kill_at is not None and len(finished(out)) < kill_at:
        assert child.poll() is None, child.stderr.read().decode()[-2000:]
        time.sleep(0.05)
    if kill_at is not None:
        child.send_signal(signal.SIGKILL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage.ru_maxrss / 1024, time.perf_counter() - started


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs the memory figures of POSIX")
def test_two_thousand_pictures_and_three_kills(tmp_path):
    photos = copies(tmp_path / "photos", COUNT)
    few = copies(tmp_path / "few", SHORT)
    code, short_peak, seconds = run(few, tmp_path / "short")
    assert code == 0 and len(finished(tmp_path / "short")) == SHORT
    print(f"\n{SHORT} pictures: {short_peak:.0f} MB, {seconds:.0f} s")
    out, seen, peaks = tmp_path / "out", {}, []
    for kill_at in (*KILLS, None):
        code, peak, seconds = run(photos, out, kill_at)
        assert code == (0 if kill_at is None else -signal.SIGKILL)
        now = finished(out)
        assert seen.items() <= now.items(), "a finished picture was done again"
        print(f"{len(seen)} to {len(now)} of {COUNT}: {peak:.0f} MB, {seconds:.0f} s")
        seen, peaks = now, [*peaks, peak]
    assert len(seen) == COUNT
    assert not list(out.rglob(f"{TEMPORARY}*")) and not (out / "errors.csv").exists()
    for path in (out / "masks").iterdir():
        with Image.open(path) as image:
            image.load()  # raises for half a file
    assert max(peaks) <= 1.1 * short_peak, f"{peaks} MB against {short_peak} MB"
