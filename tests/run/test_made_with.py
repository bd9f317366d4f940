"""A folder of results never mixes models in silence."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny_clip
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.backbones import wrap
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.run.folder import run_folder
from clipseg_ws.run.made_with import FILE, MadeWith


@pytest.fixture(scope="module")
def models():
    """Two models, and the first one's weights under another name."""
    made = {"one": tiny_clip(), "two": tiny_clip(layers=2), "three": tiny_clip()}
    given = {"short_side": 32, "refine": "none"}
    return {name: Segmenter(backbone=wrap(model, name=name), **given) for name, model in made.items()}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 48, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def run(segmenter, photos, out, **more):
    return run_folder(segmenter, list_sources(photos), out, segmenter.ask("cat"), formats=("png",), **more)


def test_a_rerun_with_another_model_is_refused(models, photos, tmp_path):
    out = tmp_path / "out"
    run(models["one"], [photos / "0.png"], out)
    before = (out / "0.png").stat().st_mtime_ns
    for other in ("two", "three"):  # other weights, and the same under another name
        with pytest.raises(ValueError, match=rf"1 of these pictures made with 'one', .*0\.png.*'{other}'.*--model one"):
            run(models[other], photos, out)
    assert not (out / "1.png").exists() and (out / "0.png").stat().st_mtime_ns == before
    assert run(models["one"], photos, out).skipped == 1
    rows = list(csv.DictReader((out / FILE).open()))
    weights = models["one"].backbone.weights_sha256
    assert [row["image"] for row in rows] == ["", "0", "", "1", "2"] and {row["weights"] for row in rows} == {weights}


def test_the_same_name_with_other_weights(models, photos, tmp_path):
    run(models["one"], photos, tmp_path)
    again = Segmenter(backbone=wrap(tiny_clip(embed=16), name="one"), short_side=32)
    with pytest.raises(ValueError, match=r"made with 'one' of other weights \([0-9a-f]{12}"):
        run(again, photos, tmp_path)


def test_overwriting_makes_them_the_new_models(models, photos, tmp_path):
    run(models["one"], photos, tmp_path)
    run(models["two"], [photos / "0.png"], tmp_path, overwrite=True)
    assert run(models["two"], [photos / "0.png"], tmp_path).skipped == 1
    with pytest.raises(ValueError, match=r"2 of these pictures made with 'one'"):
        run(models["two"], photos, tmp_path)
    run(models["two"], photos, tmp_path, overwrite=True)
    assert run(models["two"], photos, tmp_path).skipped == 3


def test_other_pictures_may_stand_beside_them(models, photos, tmp_path):
    run(models["one"], [photos / "0.png"], tmp_path)
    assert run(models["two"], [photos / "1.png"], tmp_path).done == 1
    with pytest.raises(ValueError, match="made with 'one'"):
        run(models["two"], photos, tmp_path)


def test_a_picture_without_a_line(models, photos, tmp_path):
    """A killed run wrote it, and no more its line: by whom is known as long as one model only wrote there."""
    sources = list_sources(photos)
    one, two = (MadeWith(tmp_path, models[name].backbone) for name in ("one", "two"))
    one.check(sources)  # no record at all
    one.begin()
    one.check(sources)
    with pytest.raises(ValueError, match="made with other models"):
        two.check(sources)
    two.begin()
    with pytest.raises(ValueError, match="made with other models"):
        one.check(sources)
    with open(tmp_path / FILE, "a") as file:
        file.write("0,one")  # unfinished
    one.add("1")
    with pytest.raises(ValueError, match=r"2 of these"):
        one.check(sources)


def test_many_lines_share_their_model(tmp_path):
    backbone = SimpleNamespace(name="m", weights_sha256="a" * 64)
    record = MadeWith(tmp_path, backbone)
    for i in range(5):
        record.add(f"{i}")
    made, runs = record._read()
    assert len({id(by) for by in made.values()}) == 1 == len(runs) and len(made) == 5
