"""The command ``fewshot``: its unusual option, banks that are read, extended and saved, and its errors."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import iou, scene
from PIL import Image
from typer.testing import CliRunner

from clipseg_ws.cli.app import app
from clipseg_ws.cli.supports import join_supports, parse_support
from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.fewshot.bank import load_bank

SMALL = ["--model", "nano", "--set", "short_side=224", "--format", "png"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    (root / "examples" / "boat").mkdir(parents=True)
    for seed in (1, 2, 5, 6):
        Image.fromarray(scene(seed).image).save(root / f"{seed}.jpg", quality=95)
    mask = (scene(2).labels == KINDS.index("boat") + 1).astype(np.uint8)
    Image.fromarray(mask * 255).save(root / "boat.png")
    Image.fromarray(mask * 255).save(root / "examples" / "boat" / "2.png")
    Image.fromarray(scene(2).image).save(root / "examples" / "boat" / "2.jpg", quality=95)
    return root


def call(*args: object):
    return CliRunner().invoke(app, ["fewshot", *map(str, args), *SMALL])


def test_words_of_a_support_are_joined(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()

    def joined(line: str) -> list[str]:
        return [word.replace("\x1f", "|") for word in join_supports(line.split())]

    assert joined("q.jpg --support a.jpg a.png cat -o x") == ["q.jpg", "--support", "a.jpg|a.png|cat", "-o", "x"]
    assert joined("--support a.jpg a.png q.jpg") == ["--support", "a.jpg|a.png", "q.jpg"]
    assert joined("--support a.jpg a.png frames") == ["--support", "a.jpg|a.png", "frames"]
    assert joined("--support a.jpg a.png *.gif") == ["--support", "a.jpg|a.png", "*.gif"]
    assert joined("--support a.jpg - cat --support b.jpg b.png") == [
        "--support", "a.jpg|-|cat", "--support", "b.jpg|b.png",
    ]  # fmt: skip
    assert joined("--support a.jpg --track") == ["--support", "a.jpg", "--track"]
    assert parse_support("a.jpg\x1f-\x1fcat") == ("a.jpg", None, "cat")
    assert parse_support("a.jpg\x1fa.png") == ("a.jpg", "a.png", None)
    with pytest.raises(ValueError, match="needs a picture and a mask"):
        parse_support("a.jpg")


def test_one_example_on_the_command_line(photos, tmp_path):
    done = call(photos / "5.jpg", "--support", photos / "2.jpg", photos / "boat.png", "boat", "-o", tmp_path)
    assert done.exit_code == 0, done.output
    assert "examples: boat (1)" in done.output and "1 done" in done.output
    assert iou(np.asarray(Image.open(tmp_path / "5.png")) == 1, 5, "boat") > 0.7


def test_a_bank_is_made_extended_and_used_alone(photos, tmp_path):
    file = tmp_path / "bank.safetensors"
    assert "boat (1)" in call("--support-dir", photos / "examples", "--bank", file).output
    more = call("--support", photos / "1.jpg", "-", "car", "--bank", file)
    assert more.exit_code == 0 and load_bank(file).shots() == {"boat": 1, "car": 1}
    done = call(photos / "5.jpg", photos / "6.jpg", "--bank", file, "-o", tmp_path / "o")
    assert done.exit_code == 0 and "2 done" in done.output
    weak = call("--support-dir", photos / "examples", "--weak-supports", "--bank", tmp_path / "weak.safetensors")
    assert weak.exit_code == 0 and load_bank(tmp_path / "weak.safetensors").predicted
    tracked = call(photos, "--bank", file, "--track", "--every", 1, "-o", tmp_path / "t")
    assert tracked.exit_code == 0 and load_bank(file).shots()["boat"] > 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["q.jpg"], "no examples"),
        (["{}/5.jpg", "--support", "{}/2.jpg"], "needs a picture and a mask"),
        (["{}/5.jpg", "--support", "{}/2.jpg", "{}/none.png"], "there is no mask"),
        (["{}/5.jpg", "--support", "{}/2.jpg", "{}/boat.png", "boat", "-c", "dragon"], "none of which is among"),
        (["{}/5.jpg", "--support", "{}/2.jpg", "{}/boat.png", "boat", "--method", "sclip"], "takes no supports"),
        (["{}/5.jpg", "--bank", "{}/2.jpg"], "not a support bank"),
    ],
)
def test_errors(photos, tmp_path, args, message):
    failed = call(*[a.format(photos) for a in args], "-o", tmp_path / "o")
    assert failed.exit_code != 0 and message in str(failed.exception)
    assert not (tmp_path / "o").exists()
