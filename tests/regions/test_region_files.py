"""Regions from files: every form is found by the picture's name; what is damaged or of another size is said."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from clipseg_ws.door import InputError
from clipseg_ws.output.formats.coco import run_lengths
from clipseg_ws.regions.files import read_regions

LABELS = np.array([[0, 0, 7, 7], [0, 255, 255, 7], [3, 3, 3, 3]], np.uint8)
PICTURE = np.zeros((3, 4, 3), np.uint8)


def codes():
    return [run_lengths(value == LABELS) for value in (0, 3, 7, 255)]


def test_label_pictures(tmp_path):
    Image.fromarray(LABELS).save(tmp_path / "a.png")
    found = read_regions(PICTURE, "photos/a.jpg", folder=str(tmp_path))
    assert [m.tolist() for m in found.masks()] == [(v == LABELS).tolist() for v in (0, 3, 7, 255)]
    assert len(read_regions(PICTURE, "a.jpg", folder=str(tmp_path), rest=0)) == 3
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)[LABELS]
    Image.fromarray(colours).save(tmp_path / "b.png")
    assert sorted(read_regions(PICTURE, "b.jpg", folder=str(tmp_path)).areas.tolist()) == sorted(found.areas.tolist())


@pytest.mark.parametrize("form", ["sam", "list", "codes", "whole", "counts"])
def test_json(tmp_path, form):
    entries = [{"segmentation": code, "predicted_iou": 0.5 + i / 10} for i, code in enumerate(codes())]
    if form == "whole":
        images = [{"id": 1, "file_name": "x/other.jpg"}, {"id": 2, "file_name": "x/a.jpg"}]
        entries = [entry | {"image_id": 2} for entry in entries] + [entries[0] | {"image_id": 1}]
        (tmp_path / "annotations.json").write_text(json.dumps({"images": images, "annotations": entries}))
    elif form == "counts":
        plain = {"size": [3, 4], "counts": [0, 12]}
        (tmp_path / "a.json").write_text(json.dumps([plain]))
        assert read_regions(PICTURE, "a.jpg", folder=str(tmp_path)).mask(0).all()
        return
    else:
        content = {"sam": {"image": {}, "annotations": entries}, "list": entries, "codes": codes()}[form]
        (tmp_path / "a.json").write_text(json.dumps(content))
    found = read_regions(PICTURE, "photos/a.jpg", folder=str(tmp_path))
    assert [m.tolist() for m in found.masks()] == [(v == LABELS).tolist() for v in (0, 3, 7, 255)]
    assert np.allclose(found.scores, 1 if form == "codes" else [0.5, 0.6, 0.7, 0.8])


def test_equal_names_in_two_folders(tmp_path):
    for name, value in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        labels = (LABELS == 0).astype(np.uint8) if value == 2 else np.ones((3, 4), np.uint8)
        Image.fromarray(labels).save(tmp_path / name / "a.png")
    assert len(read_regions(PICTURE, "data/one/a.jpg", folder=str(tmp_path))) == 1
    assert len(read_regions(PICTURE, "data/two/a.jpg", folder=str(tmp_path))) == 2


def test_faults(tmp_path):
    def wrong(content, match, name="a.jpg"):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(InputError, match=match):
            read_regions(PICTURE, name, folder=str(tmp_path))

    wrong(json.dumps({"annotations": [run_lengths(np.ones((2, 2), bool))]}), "region 1: run lengths of")
    wrong(json.dumps({"annotations": [{"segmentation": {"size": [3, 4], "counts": [5]}}]}), "add up to 5")
    wrong(json.dumps({"a": 1}), "no list of regions under annotations")
    wrong("{", "a.json")
    wrong("[]", "no regions of 'b.jpg'; looked for b.png, b.json", "b.jpg")
    wrong("[]", "this picture has none", "")
    Image.fromarray(np.zeros((5, 4), np.uint8)).save(tmp_path / "a.png")
    wrong("[]", "4 x 5 pixels, this one has 4 x 3")
    with pytest.raises(InputError, match="no such folder"):
        read_regions(PICTURE, "a.jpg", folder=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="need a folder"):
        read_regions(PICTURE, "a.jpg")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.json").write_text("[]")
    assert len(read_regions(PICTURE, "a.jpg", folder=str(tmp_path / "empty"))) == 0
