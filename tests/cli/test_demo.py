"""``clipseg-ws demo`` and ``clipseg-ws doctor``: what they write and say, and options that would change nothing."""

from __future__ import annotations

import json
import re
import socket

import numpy as np
import pytest
from photo_weights import needs_photo
from PIL import Image
from typer.testing import CliRunner

from clipseg_ws.cli import app as cli
from clipseg_ws.cli.doctor import SELF_TESTS, examine
from clipseg_ws.embedded.photos import PHOTOS
from clipseg_ws.output.formats.png import read_label_png

STEPS = {"by_names": "chelsea", "by_example": "camera", "by_box": "coffee"}


def invoke(*args):
    return CliRunner().invoke(cli.app, [str(arg) for arg in args])


@pytest.fixture
def no_network(monkeypatch):
    """Every connection fails."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"a connection to {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def ious(output: str) -> list[float]:
    return [float(number) for number in re.findall(r"drawn by hand: (\d\.\d+)", output)]


def test_photos_by_names_by_an_example_and_by_a_box(tmp_path, no_network):
    """The three steps run with any model; nano's answers mean nothing, and it is said."""
    done = invoke("demo", "--model", "nano", "-o", tmp_path)
    assert done.exit_code == 0, done.output
    assert "nano knows drawn scenes only" in done.output and len(ious(done.output)) == 3
    for stem, name in STEPS.items():
        labels, truth = read_label_png(tmp_path / f"{stem}.png"), PHOTOS[name].mask()
        record = json.loads((tmp_path / f"{stem}.json").read_text())
        assert labels.shape == truth.shape and (tmp_path / f"{stem}_overlay.png").is_file()
        got = labels == record["names"].index(PHOTOS[name].shows[0]) + 1
        assert f"drawn by hand: {(got & truth).sum() / (got | truth).sum():.3f}" in done.output
    settings = [json.loads((tmp_path / f"{stem}.json").read_text())["setting"] for stem in STEPS]
    assert settings == ["zero", "few", "weak"]


def test_what_was_given_is_shown(tmp_path):
    invoke("demo", "--model", "nano", "-o", tmp_path)
    example, mask = np.asarray(PHOTOS["astronaut"].open(), int), PHOTOS["astronaut"].mask()
    shown = np.asarray(Image.open(tmp_path / "by_example_given.png"), int)[: mask.shape[0], : mask.shape[1]]
    changed = np.abs(shown - example).max(axis=2) > 8
    assert changed[mask].mean() > 0.9 and changed[~mask].mean() < 0.1
    boxed = np.asarray(Image.open(tmp_path / "by_box_given.png"), int)
    drawn = (boxed == (255, 60, 0)).all(axis=2)
    rows, columns = PHOTOS["coffee"].mask().any(axis=1).nonzero()[0], drawn.any(axis=0).nonzero()[0]
    assert drawn[rows[0], columns[0] : columns[-1]].all() and not drawn[: rows[0] - 1].any()


@needs_photo
def test_photo_finds_them(tmp_path, no_network):
    done = invoke("demo", "-o", tmp_path)
    assert done.exit_code == 0, done.output
    assert min(ious(done.output)) >= 0.55, done.output
    assert "found: cat" in done.output and "nano" not in done.output


def test_drawn_scenes(tmp_path):
    done = invoke("demo", "--scenes", "-o", tmp_path)
    assert done.exit_code == 0, done.output
    assert done.output.count("mIoU") == 2
    for name in (
        "scene.png",
        "scene_truth.png",
        "scene_by_names_overlay.png",
        "scene_by_tags_overlay.png",
        "scene_by_names.png",
        "scene_by_tags.json",
    ):
        assert (tmp_path / name).stat().st_size > 0
    assert "seed 7" in invoke("demo", "--scenes", "--seed", "7", "--size", "96", "-o", tmp_path).output
    assert Image.open(tmp_path / "scene.png").size == (96, 96)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--seed", "7"), "--seed belongs to drawn scenes; add --scenes"),
        (("--size", "96"), "--size belongs to drawn scenes"),
        (("--port", "7999"), "--port belongs to the page; add --web"),
        (("--no-browser",), "--browser belongs to the page"),
        (("--web", "--scenes"), "--scenes changes nothing with --web"),
        (("--web", "-o", "there"), "--output changes nothing with --web"),
    ],
)
def test_an_option_that_would_change_nothing_is_an_error(args, message, monkeypatch):
    monkeypatch.setattr("clipseg_ws.web.server.serve", lambda echo, **options: None)
    done = invoke("demo", *args)
    assert isinstance(done.exception, ValueError) and message in str(done.exception)


@pytest.mark.parametrize(("args", "model"), [((), "photo"), (("--model", "nano"), "nano")])
def test_the_page_opens_with_photo(args, model, monkeypatch):
    seen = {}
    monkeypatch.setattr("clipseg_ws.web.server.serve", lambda echo, **options: seen.update(options))
    assert invoke("demo", "--web", "--offline", "--port", "7999", *args).exit_code == 0
    assert seen["model"] == model and seen["port"] == 7999 and seen["offline"] is True
    assert seen["host"] == "127.0.0.1" and seen["share"] is False


@needs_photo
def test_doctor_passes_its_self_tests():
    done = invoke("doctor")
    assert done.exit_code == 0, done.output
    assert "self-test of photo passed" in done.output and "self-test of nano passed" in done.output


def test_doctor_judges_every_embedded_model():
    lines = dict(examine())
    text = "\n".join(lines)
    assert "torch" in text and "self-test of nano passed: 9" in text
    for name in SELF_TESTS:
        (line,) = (line for line in lines if line.startswith(f"embedded model: {name} "))
        assert lines[line] == ("MISSING" not in line)
        assert any(line.startswith(f"self-test of {name} ") for line in lines)


def test_doctor_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr("clipseg_ws.backbones.places.EMBEDDED", tmp_path)
    done = invoke("doctor")
    assert done.exit_code == 1
    assert "embedded model: nano MISSING" in done.output and "self-test of nano FAILED" in done.output
