"""Help that teaches: the five uses, near-misses, what fails before anything is loaded, every extra."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipseg_ws import Segmenter, segmenter
from clipseg_ws.cli import app as cli
from clipseg_ws.cli.doctor import extras

ROOT = Path(__file__).resolve().parents[2]


def run(monkeypatch, capsys, *words: str) -> tuple[int, str]:
    """Exit code and everything that the console script prints."""
    monkeypatch.setattr("sys.argv", ["clipseg-ws", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    return int(stop.value.code or 0), printed.out + printed.err


def test_without_arguments_five_uses_are_shown(monkeypatch, capsys):
    code, shown = run(monkeypatch, capsys)
    assert code == 0
    uses = re.findall(r"^  [a-z ]+?  +(clipseg-ws .+)$", shown, re.MULTILINE)
    assert [shlex.split(use)[1] for use in uses] == ["predict", "fewshot", "pseudo", "eval", "demo"]
    for line in re.findall(r"clipseg-ws (\w+)", shown):
        assert line in cli.COMMANDS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("predcit", "photo.jpg"), "'predcit' is no command; did you mean 'predict'? choose one of predict, unpack"),
        (("photo.jpg", "-c", "cat"), 'for a picture write clipseg-ws predict photo.jpg -c "cat; sofa"'),
        (("predict", "photo.jpg", "-c", "cat"), "no picture at 'photo.jpg'; did you mean 'photos.jpg'?"),
        (("predict", "sub/foto.png", "-c", "cat"), "did you mean 'sub/photo.png'?"),
        (("predict", "photos.jpg", "-c", "cat", "--method", "clipes"), "did you mean 'clip-es'?"),
        (("predict", "photos.jpg", "-c", "cat", "--format", "overlay(legend=insid)"), "did you mean 'inside'?"),
        (("predict", "photos.jpg", "-c", "cat", "--batchsize", "3"), "--batch-size"),
        (("prompts", "show", "vocc"), "did you mean 'voc'? for a class of that name"),
    ],
)
def test_near_misses_are_named(tmp_path, monkeypatch, capsys, words, message):
    (tmp_path / "sub").mkdir()
    for name in ("photos.jpg", "sub/photo.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    words = (*words, "--model", "nano") if words[0] == "predict" else words
    code, shown = run(monkeypatch, capsys, *words)
    assert code == 2 and message in " ".join(shown.replace("│", " ").split()) and "Traceback" not in shown


def test_a_missing_second_model_is_said_before_anything_is_loaded(monkeypatch):
    loaded = []
    monkeypatch.setattr(segmenter, "load_backbone", lambda *how, **more: loaded.append(how))
    for settings in ({"method": "proxyclip"}, {"method": "maskclip", "dense_mode": "proxy"}, {"dense_mode": "proxy"}):
        with pytest.raises(ValueError, match=r"reads a second vision model.*--features hf:facebook/dinov2-base"):
            Segmenter("nano", **settings)
    assert loaded == []
    monkeypatch.undo()
    segment = Segmenter("nano", dtype="float32")
    with pytest.raises(ValueError, match="reads a second vision model"):
        segment.variant("proxyclip")


def test_doctor_knows_every_extra():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    found = extras()
    assert {"crf", "superpixels", "coco", "heif", "plots", "train", "demo", "ray", "test", "dev"} <= set(found)
    for extra in set(found) & set(declared):
        assert found[extra] == [re.split(r"[\[<>=]", line)[0] for line in declared[extra]], extra
