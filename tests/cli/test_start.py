"""What a command imports: counted in processes of their own, since seconds depend on the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from drawn import scene
from PIL import Image

HEAVY = ("torch", "open_clip", "timm", "transformers", "torchvision", "pandas", "scipy", "tqdm", "huggingface_hub")
SHOWN = "; import sys; print('imported:', *sorted({name for name in sys.modules}))"


def imported(code: str, cache: Path) -> set[str]:
    """Modules that a piece of Python leaves imported."""
    environment = os.environ | {"CLIPSEG_WS_CACHE": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("imported:")[2].split())


def command(*words: str) -> str:
    """Python that runs a command and prints what was imported."""
    run = f"import sys; sys.argv = ['clipseg-ws', {', '.join(map(repr, words))}]\nfrom clipseg_ws.cli.app import app"
    return f"{run}\ntry:\n    app()\nexcept SystemExit as end:\n    assert not end.code\n{SHOWN[2:]}"


@pytest.mark.parametrize("code", ["import clipseg_ws", "import clipseg_ws.cli.app", command("predict", "--help")])
def test_a_command_line_is_light(code: str, tmp_path: Path) -> None:
    found = imported(code if "print" in code else code + SHOWN, tmp_path)
    assert not found & {*HEAVY, "numpy", "PIL"}


def test_a_first_mask_needs_torch_alone_and_a_rerun_not_even_that(tmp_path: Path) -> None:
    pictures = tmp_path / "in"
    pictures.mkdir()
    Image.fromarray(np.asarray(scene(0).image)).save(pictures / "a.png")
    words = ("predict", str(pictures), "-c", "house; tree", "--model", "nano", "-o", str(tmp_path / "out"))
    first = imported(command(*words), tmp_path / "cache")
    assert "torch" in first
    assert not first & {"open_clip", "timm", "transformers", "torchvision", "torch._dynamo", "sympy", "pandas"}
    again = imported(command(*words), tmp_path / "cache")
    assert "clipseg_ws.run.ahead" in again and not again & {*HEAVY, "clipseg_ws.segmenter"}
    other = imported(command(*words[:3], "house; car", *words[4:]), tmp_path / "cache")
    assert "torch" in other, "another question is answered"
