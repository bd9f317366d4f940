"""Commands without --model: one line says what was taken, and a rerun never mixes models. Names that are not known."""

from __future__ import annotations

import json
import warnings

import pytest
from drawn import scene
from PIL import Image
from stand_in import CARD, stand_in_photo
from typer.testing import CliRunner

from clipseg_ws import Segmenter
from clipseg_ws.backbones import hub
from clipseg_ws.cli import app as cli
from clipseg_ws.cli import groups
from clipseg_ws.text.known_names import UnknownNameWarning


@pytest.fixture(scope="module", autouse=True)
def photo(tmp_path_factory):
    """A stand-in for photo, and no CLIP in the cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub, "cached_file", lambda repo, file: None)
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield stand_in_photo(patch, tmp_path_factory.mktemp("models") / "embedded")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in (1, 2):
        Image.fromarray(scene(seed).image).save(folder / f"{seed}.png")
    return folder


def invoke(*args, code=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnknownNameWarning)
        done = CliRunner().invoke(cli.app, [str(arg) for arg in args])
    assert done.exit_code == code, f"{done.output} {done.exception!r}"
    return done


def test_predict_says_what_it_took_and_never_mixes(pictures, tmp_path, monkeypatch):
    out = tmp_path / "out"
    done = invoke("predict", pictures / "1.png", "-c", "cat; stethoscopes", "-o", out)
    (line,) = (line for line in done.stderr.splitlines() if "no model was named" in line)
    assert "'photo' is taken" in line and "clipseg-ws download ViT-B-16-quickgelu/openai" in line
    config = json.loads((out / "1.json").read_text())["config"]
    assert config["model"] == "photo" and config["short_side"] == 64 and config["settings_of"] == "model"
    assert config["unknown_names"] == {"stethoscopes": "stethoscope"}
    before = (out / "1.png").read_bytes()
    monkeypatch.setattr(groups, "choose_model", lambda say: "nano")  # as if another model had come onto the machine
    refused = invoke("predict", pictures, "-c", "cat", "-o", out, code=1)
    assert "made with 'photo'" in str(refused.exception) and "--model photo" in str(refused.exception)
    assert (out / "1.png").read_bytes() == before and not (out / "2.png").exists()
    assert "1 already there" in invoke("predict", pictures, "-c", "cat", "-o", out, "--model", "photo").output
    assert "2 done" in invoke("predict", pictures, "-c", "cat", "-o", out, "--overwrite").output
    assert json.loads((out / "2.json").read_text())["config"]["model"] == "nano"


def test_pseudo_and_fewshot_without_a_model(pictures, tmp_path, monkeypatch):
    args = ("pseudo", pictures, "--tags", "cat", "-o", tmp_path / "p", "--refine", "none")
    assert "'photo' is taken" in invoke(*args).stderr
    assert json.loads((tmp_path / "p" / "settings.json").read_text())["settings"]["model"] == "photo"
    support = ("--support", pictures / "1.png", "-", "cat")
    assert "'photo' is taken" in invoke("fewshot", pictures, *support, "-o", tmp_path / "f").stderr
    monkeypatch.setattr(groups, "choose_model", lambda say: "nano")
    assert "made with other model" in str(invoke(*args, code=1).exception)
    assert "made with 'photo'" in str(invoke("fewshot", pictures, *support, "-o", tmp_path / "f", code=1).exception)


def test_a_named_model_is_not_talked_about(pictures, tmp_path):
    done = invoke("predict", pictures, "-c", "cat", "-o", tmp_path, "--model", "nano")
    assert "no model was named" not in done.stderr


def test_list_names():
    assert invoke("list", "names", "--model", "photo").stdout.splitlines() == CARD["known_classes"]
    unnamed = invoke("list", "names")
    assert unnamed.stdout.splitlines() == CARD["known_classes"] and "'photo' is taken" in unnamed.stderr
    assert len(invoke("list", "names", "--model", "nano").stdout.splitlines()) == 12
    assert "it takes any words" in invoke("list", "names", "--model", "ViT-B-16-quickgelu/openai").stdout
    for args in (("list", "methods", "--model", "nano"), ("list", "names", "--model", "nano", "--markdown")):
        assert isinstance(invoke(*args, code=1).exception, ValueError)


def test_what_is_not_known_is_one_line(pictures, tmp_path, monkeypatch, capsys):
    line = ["clipseg-ws", "predict", str(pictures), "-c", "cat, kitty; giraffe", "--background", "okapi, sky"]
    monkeypatch.setattr("sys.argv", [*line, "--model", "photo", "-o", str(tmp_path / "o"), "--batch-size", "1"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = [text for text in capsys.readouterr().err.splitlines() if "giraffe" in text]
    every = "all of them: clipseg-ws list names --model photo"
    assert not stop.value.code
    assert said == [f"clipseg-ws: photo knows 6 things; 'giraffe' is not among them; {every}"]


def test_in_python_once_a_question():
    segment, picture = Segmenter("photo"), scene(1).image
    with pytest.warns(UnknownNameWarning, match=r"'dogs' is not among them; nearest: dog$") as said:
        question = segment.ask("dogs; Kitty; couch", background="okapi, quagga")
        results = segment.answer(question, [picture, picture])
    assert len(said) == 1 and [r.config["unknown_names"] for r in results] == [{"dogs": "dog"}] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert segment(picture, "cat, meow; puppy").config["unknown_names"] == {}
        support = (picture, (scene(1).labels > 0).astype("uint8"), "giraffe")
        assert segment(picture, supports=[support]).config["unknown_names"] == {}  # the example alone counts
    with pytest.warns(UnknownNameWarning, match="nano knows 12 things; 'giraffe' is not"):
        Segmenter("nano").ask("giraffe; house; toadstool")


def test_default_classes_stand_where_nobody_names_any():
    segment, picture = Segmenter("photo"), scene(1).image
    assert segment(picture).names == ("cat", "dog", "sofa")
    assert segment(picture, tags=["stethoscope", "dog"]).names == ("dog", "stethoscope")
    assert len(Segmenter("nano").ask(tags=[["house"]]).vocabulary.names) == 12
