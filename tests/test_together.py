"""Locks, and what processes that are gone left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from clipseg_ws.door import InputError
from clipseg_ws.files import TEMPORARY, atomic_write, remove_unfinished, write_arrays
from clipseg_ws.output.save import is_done
from clipseg_ws.together import Busy, locked, machine, sweep

CHILD = """
import sys, time
from clipseg_ws.files import atomic_write
from clipseg_ws.together import locked
with locked(sys.argv[1] + "/.lock"), atomic_write(sys.argv[1] + "/a.png") as path:
    print(path.name, flush=True)
    time.sleep(600)
"""


def gone() -> int:
    """The number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_what_a_killed_process_left_is_swept_and_what_lives_is_not(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    name = child.stdout.readline().strip()
    assert name.startswith(f"{TEMPORARY}{machine()}-{child.pid}-") and (tmp_path / name).exists()
    assert remove_unfinished(tmp_path) == 0
    with pytest.raises(Busy, match=rf"in use by process {child.pid} of .* on .* since") as caught, \
            locked(tmp_path / ".lock", wait=False):  # fmt: skip
        pass
    assert isinstance(caught.value, InputError) and isinstance(caught.value, BlockingIOError)
    child.kill()
    child.wait()
    with locked(tmp_path / ".lock", wait=False):
        assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()
        assert remove_unfinished(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock"]


def test_owners_of_other_machines_and_old_names(tmp_path):
    names = {f"{TEMPORARY}00000000-1-x": False, f"{TEMPORARY}abcdef": False, f"{TEMPORARY}{machine()}-{gone()}-x": True}
    for name in names:
        (tmp_path / "sub" / name).mkdir(parents=True)
        (tmp_path / "sub" / name / "half.png").touch()
    assert sweep(tmp_path, TEMPORARY, deep=False) == 0 and sweep(tmp_path, TEMPORARY) == 1
    old = time.time() - 2 * 86_400
    for name in names:
        if (tmp_path / "sub" / name).exists():
            os.utime(tmp_path / "sub" / name, (old, old))
    assert sweep(tmp_path, TEMPORARY) == 2 and not list((tmp_path / "sub").iterdir())


def test_a_link_is_removed_and_not_followed(tmp_path):
    (tmp_path / "dear").mkdir()
    (tmp_path / "dear" / "a").touch()
    link = tmp_path / f"{TEMPORARY}{machine()}-{gone()}-x"
    link.symlink_to(tmp_path / "dear", target_is_directory=True)
    assert sweep(tmp_path, TEMPORARY) == 1 and (tmp_path / "dear" / "a").exists() and not link.is_symlink()


def test_arrays_are_written_whatever_the_clock_says(tmp_path, monkeypatch):
    """``numpy.savez`` fails before 1980."""
    monkeypatch.setattr(time, "localtime", lambda *_: time.struct_time((1970, 1, 1, 0, 0, 0, 3, 1, 0)))
    arrays = {"a": np.arange(6).reshape(2, 3), "scores/b": np.zeros(0)}
    for packed in (False, True):
        write_arrays(tmp_path / "a.npz", arrays, packed=packed)
        with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
            assert set(found.files) == set(arrays) and (found["a"] == arrays["a"]).all()


def test_files_have_the_users_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a.txt") as path:
            path.write_text("x")
        write_arrays(tmp_path / "a.npz", {"a": np.zeros(1)})
    finally:
        os.umask(before)
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in tmp_path.iterdir()} == {"a.txt": "0o640", "a.npz": "0o640"}


def test_empty_results_and_names_at_the_limit_are_not_done(tmp_path):
    assert not is_done(tmp_path, "a", ["png"])
    (tmp_path / "a.png").touch()
    assert not is_done(tmp_path, "a", ["png"])
    (tmp_path / "a.png").write_bytes(b"x")
    assert is_done(tmp_path, "a", ["png"])
    assert not is_done(tmp_path, "n" * 254, ["png", "overlay"])  # before, this stopped the whole run
    with atomic_write(tmp_path / f"{'n' * 100}.{'s' * 150}") as path:
        assert len(path.name) < 100


def test_the_temporary_name_keeps_a_short_suffix(tmp_path):
    with atomic_write(Path(tmp_path, "a.png")) as path:
        assert path.suffix == ".png"
