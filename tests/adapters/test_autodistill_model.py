"""The base model of autodistill: predicts as the segmenter does, and labels a folder with autodistill's own code."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from drawn import scene
from PIL import Image

from clipseg_ws.segmenter import Segmenter

WORDS = {"house, building": "house", "tree": "plant", "car": "car", "fir": "plant"}


def test_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    monkeypatch.delitem(sys.modules, "clipseg_ws.adapters.autodistill", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'clipseg_ws\[autodistill\]'"):
        importlib.import_module("clipseg_ws.adapters.autodistill")


@pytest.fixture(scope="module")
def base():
    detection = pytest.importorskip("autodistill.detection")
    from autodistill_clipseg_ws import ClipsegWS

    return ClipsegWS(detection.CaptionOntology(WORDS), segmenter=Segmenter("nano", dtype="float32", instances=True))


def test_words_of_the_ontology(base):
    vocabulary = base.question.vocabulary
    assert vocabulary.names == ("house", "plant", "car")
    assert vocabulary.synonyms == (("house", "building"), ("tree", "fir"), ("car",))


def test_predicts_as_the_segmenter_does(base, tmp_path):
    image = scene(3).image
    (want,) = base.segmenter.answer(base.question, [image])
    Image.fromarray(image).save(tmp_path / "a.png")
    for given in (image[..., ::-1], Image.fromarray(image), str(tmp_path / "a.png")):  # an array is BGR
        found = base.predict(given)
        assert np.array_equal(found.mask.any(0), want.labels > 0) and found.mask.any()
        names = [base.ontology.classes()[number] for number in found.class_id]
        assert names == [box.name for box in want.boxes()]


def test_labels_a_folder(base, tmp_path):
    (tmp_path / "photos").mkdir()
    for seed in range(3, 8):
        Image.fromarray(scene(seed).image).save(tmp_path / "photos" / f"{seed}.png")
    made = base.label(str(tmp_path / "photos"), extension=".png", output_folder=str(tmp_path / "out"))
    assert len(made) == 5
    lines = [line for file in (tmp_path / "out").rglob("[3-7].txt") for line in file.read_text().splitlines()]
    assert lines and {int(line.split()[0]) for line in lines} <= {0, 1, 2}
    assert (tmp_path / "out" / "data.yaml").exists()
