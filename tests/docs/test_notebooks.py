"""The notebooks in docs: small, without outputs, and (with -m slow) run from the first cell to the last."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from doc_blocks import ROOT

NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))
MOST = 10_000  # bytes


def test_there_are_some():
    assert len(NOTEBOOKS) == 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_stripped_and_small(path):
    assert path.stat().st_size < MOST
    content = json.loads(path.read_text("utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_runs(path, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (extra docs)")
    client = pytest.importorskip("nbclient", reason="nbclient is not installed (extra docs)")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed (extra docs)")
    scripts = str(Path(sys.executable).parent)
    monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{os.environ['PATH']}")
    if shutil.which("clipseg-ws", path=scripts) is None:
        pytest.skip("the command clipseg-ws is not beside this Python")
    notebook = nbformat.read(path, as_version=4)
    client.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    told = json.dumps([dict(out) for out in outputs])
    assert "image/png" in told  # results show themselves
    assert not [out for out in outputs if out.output_type == "error"]
    if path.stem == "first-masks":
        assert "'stethoscopes' is not among them" in told
        assert (tmp_path / "out" / "chelsea_overlay.png").exists()
    else:
        assert (tmp_path / "results" / "results.csv").exists()
