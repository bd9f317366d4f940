"""A few hundred cases of the fuzzing suite (``python -m tests.fuzz`` has more), and the page of promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clipseg_ws.door.limits import LIMITS

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(os.name != "posix", reason="limits on memory and time as POSIX has them")
def test_hostile_files_are_read_or_refused():
    words = [sys.executable, str(ROOT / "tests" / "fuzz.py"), "--count", "180", "--seed", "7"]  # four of every group
    done = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "painting" in done.stdout


def test_the_limits_on_the_page_of_promises():
    page = (ROOT / "docs" / "promises.md").read_text("utf-8")
    rows = [f"| `{name.upper()}` | {entry.value:,} | {entry.about} |" for name, entry in LIMITS.items()]
    assert "\n".join(["| name | at most | of |", "|---|---|---|", *rows]) in page
