"""Every reader of label files: one small file of its form, damaged files, and the words of the errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipseg_ws.weak import MARK_FORMATS, TAG_FORMATS
from clipseg_ws.weak.marks import mark_names, read_marks
from clipseg_ws.weak.readers.forms import Reader
from clipseg_ws.weak.tags import read_tags

VOC = (
    "<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax><ymax>3</ymax></bndbox>"
    "</object></annotation>"
)
COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}],
    "annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 4, 3]}],
    "categories": [{"id": 1, "name": "cat"}],
}
STUDIO_BOX = {"x": 0, "y": 0, "width": 40, "height": 30, "rectanglelabels": ["cat"]}
STUDIO = {"type": "rectanglelabels", "original_width": 10, "original_height": 10, "value": STUDIO_BOX}
CVAT = (
    '<annotations><version>1.1</version><image id="0" name="a.jpg" width="10" height="10">'
    '<box label="cat" xtl="0" ytl="0" xbr="4" ybr="3"/></image></annotations>'
)
TAGGED = {  # form -> a file that says that picture a holds a cat
    "csv": ("t.csv", "image,tags\na.jpg,cat\n"),
    "coco": ("t.json", COCO),
    "json": ("t.json", {"a.jpg": ["cat"]}),
    "voc": ("a.xml", VOC),
    "cvat": ("t.xml", CVAT),
}
MARKED = {  # form -> a file with a box, or strokes, of a cat in picture a
    "voc": ("a.xml", VOC),
    "cvat": ("t.xml", CVAT),
    "coco": ("t.json", COCO),
    "labelme": ("a.json", {"shapes": [{"label": "cat", "shape_type": "rectangle", "points": [[0, 0], [4, 3]]}]}),
    "label-studio": ("t.json", [{"data": {"image": "a.jpg"}, "annotations": [{"result": [STUDIO]}]}]),
    "scribbles": ("a.png", np.ones((3, 4), np.uint8)),
}


def write(path: Path, content: object) -> Path:
    if isinstance(content, np.ndarray):
        Image.fromarray(content).save(path)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("name", TAG_FORMATS)
def test_every_form_of_tags(name, tmp_path):
    file, content = TAGGED[name]
    path = write(tmp_path / file, content)
    assert read_tags(path, ["cat"]) == read_tags(path) == {"a": ("cat",)}
    with pytest.raises(ValueError, match=rf"{file}.*'cat' is not one of the classes; allowed: dog"):
        read_tags(path, ["dog"])


@pytest.mark.parametrize("name", MARK_FORMATS)
def test_every_form_of_marks(name, tmp_path):
    file, content = MARKED[name]
    path = write(tmp_path / file, content)
    for place in (path, tmp_path):
        marks = read_marks(place, ["cat"])
        assert list(marks) == ["a"]
        if marks["a"].scribbles is None:
            assert marks["a"].boxes == (("cat", 0, 0, 4, 3),) and mark_names(marks["a"]) == {"cat"}
        else:
            assert np.array_equal(marks["a"].scribbles, content)


@pytest.mark.parametrize("name", TAG_FORMATS)
def test_damaged_tags_name_the_file(name, tmp_path):
    path = tmp_path / TAGGED[name][0]
    path.write_bytes(b"\xff\xfe\x00 no")
    with pytest.raises(ValueError, match=path.name):
        read_tags(path)


@pytest.mark.parametrize("name", MARK_FORMATS)
def test_damaged_marks_name_the_file(name, tmp_path):
    path = tmp_path / MARKED[name][0]
    path.write_bytes(b"\xff\xfe\x00 no")
    with pytest.raises(ValueError, match=path.name):
        dict(read_marks(path))  # PNGs are read when they are looked up


@pytest.mark.parametrize("table, read", [(TAG_FORMATS, read_tags), (MARK_FORMATS, read_marks)])
def test_errors_list_the_table(table, read, tmp_path):
    (tmp_path / "a.yaml").write_text("a: cat")
    for path, error in ((tmp_path / "no.json", FileNotFoundError), (tmp_path / "a.yaml", ValueError)):
        with pytest.raises(error) as caught:
            read(path)
        assert all(entry.about["title"] in str(caught.value) for entry in table.values())


def test_readers_of_a_suffix_look_at_the_same():
    for table in (TAG_FORMATS, MARK_FORMATS):
        loads: dict[str, object] = {}
        for entry in table.values():
            reader = entry.load()
            assert isinstance(reader, Reader) and all(s == s.lower() and s[0] == "." for s in reader.suffixes)
            assert all(loads.setdefault(suffix, reader.load) is reader.load for suffix in reader.suffixes)
