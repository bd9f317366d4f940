"""The command line on the embedded model: files, exit codes, messages."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from clipseg_ws.cli import app as cli
from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene
from clipseg_ws.output.answers import FILE as ANSWERS
from clipseg_ws.output.answers import QUESTIONS
from clipseg_ws.pictures.written import MARKER
from clipseg_ws.run.made_with import FILE

runner = CliRunner()


def invoke(*args: str):
    """Run the app as the console script does: mended errors are messages with exit code 2."""
    return runner.invoke(cli.app, [str(a) for a in args])


@pytest.fixture(scope="module")
def scene_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes") / "scene.png"
    Image.fromarray(draw_scene(10_000_007, 224).image).save(path)
    return path


def test_predict_prints_a_table_and_writes_three_files(scene_file, tmp_path):
    done = invoke("predict", scene_file, "--model", "nano", "-c", "; ".join(KINDS), "-o", tmp_path)
    assert done.exit_code == 0, done.output
    about = {MARKER, FILE, ANSWERS, QUESTIONS}
    assert {p.name for p in tmp_path.iterdir()} == {"scene.json", "scene.png", "scene_overlay.png", *about}
    record = json.loads((tmp_path / "scene.json").read_text())
    assert record["names"] == list(KINDS) and record["setting"] == "zero"
    assert "background" in done.output and "1 done" in done.output


def test_tags_and_settings(scene_file, tmp_path):
    done = invoke(
        "predict", scene_file, "--model", "nano", "--tags", "house; tree", "--set", "alpha=2", "--format", "png,json",
        "-o", tmp_path,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "scene.json").read_text())
    assert record["setting"] == "weak" and record["config"]["alpha"] == 2
    allowed = [0, *(i + 1 for i, n in enumerate(record["names"]) if n in ("house", "tree"))]
    assert set(np.unique(np.asarray(Image.open(tmp_path / "scene.png")))) <= set(allowed)


def test_one_bad_file_gives_exit_code_1_and_the_rest(scene_file, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_text("text")
    done = invoke("predict", scene_file, bad, "--model", "nano", "-c", "house", "-o", tmp_path / "out")
    assert done.exit_code == 1 and "1 done" in done.output and "1 failed" in done.output
    assert (tmp_path / "out" / "scene.png").exists() and (tmp_path / "out" / "errors.csv").exists()


def test_existing_results_are_kept(scene_file, tmp_path):
    invoke("predict", scene_file, "--model", "nano", "-c", "house", "-o", tmp_path)
    again = invoke("predict", scene_file, "--model", "nano", "-c", "house", "-o", tmp_path)
    assert "1 already there" in again.output and "--overwrite" in again.output


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("nowhere.jpg", "-c", "cat"), "nowhere.jpg"),
        (("SCENE", "-c", "house", "--method", "magic"), "clip-es"),
        (("SCENE", "-c", "house", "--format", "gif"), "gif"),
        (("SCENE", "-c", "house", "--set", "alpha"), "KEY=VALUE"),
        (("SCENE", "-c", "house", "--set", "alhpa=2"), "did you mean 'alpha'"),
        (("SCENE", "-c", "house", "--tags", "missing.csv"), "missing.csv"),
        (("SCENE", "-c", ";"), "person, people"),
    ],
)
def test_mistakes_are_one_line(scene_file, tmp_path, args, message, monkeypatch, capsys):
    args = [str(scene_file) if a == "SCENE" else a for a in args]
    monkeypatch.setattr("sys.argv", ["clipseg-ws", "predict", *args, "--model", "nano", "-o", str(tmp_path / "o")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and message in printed and "Traceback" not in printed


def test_prompts_commands(scene_file):
    assert "voc" in invoke("prompts", "list").output
    assert "person with clothes" in invoke("prompts", "show", "voc").output
    ranked = invoke(
        "prompts", "rank", scene_file, "--model", "nano", "-c", "house; tree; car",
        "--templates", "a photo of a {}.|a drawing of a {}.",
    )  # fmt: skip
    assert ranked.exit_code == 0, ranked.output
    assert "a photo of a {}." in ranked.output and "2 templates on 1 pictures" in ranked.output


def test_version():
    from clipseg_ws import __version__

    assert invoke("--version").output.strip() == __version__


def test_prompts_experts_and_background(scene_file, tmp_path):
    path = tmp_path / "experts.yaml"
    done = invoke(
        "prompts", "experts", scene_file, "--model", "nano", "-c", "; ".join(KINDS), "--templates",
        "a {}.|a photo of a {}.|art of the {}.", "--top", 1, "-o", path,
    )  # fmt: skip
    assert done.exit_code == 0 and f"use them with -c {path}" in done.output, done.output
    assert "own prompts: " in invoke("prompts", "show", path).output
    again = invoke("predict", scene_file, "--model", "nano", "-c", path, "-o", tmp_path / "out", "--background", "auto")
    assert again.exit_code == 0 and "1 done" in again.output, again.output
    listed = invoke("prompts", "background", "--model", "nano", "-c", "house; tree; car", "--count", 5)
    assert listed.exit_code == 0 and "5 of " in listed.output and ", nearest to " in listed.output, listed.output
