"""Boxes, points and scribbles as VOC, COCO, LabelMe, Label Studio and PNG write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.marks import draw_lines, lookup_marks, merge_marks, read_marks
from clipseg_ws.weak.readers.scribbles import read_scribbles

NAMES = ("cat", "dog")


def voc_xml(*objects: tuple) -> str:
    items = "".join(
        f"<object><name>{n}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "<part><name>head</name><bndbox><xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part></object>"
        for n, a, b, c, d in objects
    )
    return f"<annotation><filename>wrong.jpg</filename>{items}</annotation>"


def test_voc_folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.xml").write_text(voc_xml(("Cat", 1, 1, 4, 3), ("dog", 2.5, 1, 3, 9)))
    (tmp_path / "none.xml").write_text("<annotation/>")
    marks = read_marks(tmp_path, NAMES)
    assert set(marks) == {"sub/a", "none"}
    assert marks["sub/a"].boxes == (("cat", 0, 0, 4, 3), ("dog", 1.5, 0, 3, 9))  # parts of objects are none
    assert marks["sub/a"].tags is None and marks["none"].tags == ()
    assert marks.classes() == ("cat", "dog")
    (tmp_path / "b.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    with pytest.warns(UserWarning, match=r"b\.xml, object 1 \(cat\).*bndbox.*four numbers"):
        marks = read_marks(tmp_path)
    assert marks["sub/a"].boxes  # the rest goes on
    with pytest.raises(ValueError, match=r"b\.xml.*bndbox.*four numbers"):
        lookup_marks(marks, "b.jpg")


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_coco(tmp_path):
    images = [{"id": 7, "file_name": "x/a.jpg"}, {"id": 9, "file_name": "b.jpg"}]
    boxes = [{"image_id": 7, "category_id": 18, "bbox": [1.5, 2, 10, 4]}]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 18, "name": "dog"}]}
    marks = read_marks(write(tmp_path / "c.json", content))
    assert marks["x/a"].boxes == (("dog", 1.5, 2, 11.5, 6),) and marks["b"].tags == ()
    with pytest.raises(ValueError, match="'dog' is not one of the classes; allowed: cow"):
        read_marks(tmp_path / "c.json", ["cow"])
    content["annotations"].append({"image_id": 1, "category_id": 18, "bbox": [1, 2, 3, 4]})
    with pytest.warns(UserWarning, match=r"c\.json, annotation number 2: image_id 1 is not among the images"):
        again = read_marks(write(tmp_path / "c.json", content))
    assert {name: again[name].boxes for name in again} == {name: marks[name].boxes for name in marks}


def labelme(*shapes: tuple) -> dict:
    return {
        "shapes": [{"label": name, "shape_type": kind, "points": points} for name, kind, points in shapes],
        "imageHeight": 20,
        "imageWidth": 30,
    }


def test_labelme(tmp_path):
    content = labelme(
        ("dog", "rectangle", [[9, 8], [2, 3]]),
        ("background", "point", [[1.5, 2]]),
        ("cat", "linestrip", [[5, 5], [15, 5], [15, 12]]),
        ("Background", "line", [[20, 0], [20, 19]]),
    )
    write(tmp_path / "a.json", content)
    found = read_marks(tmp_path, NAMES)["a"]
    assert found.boxes == (("dog", 2, 3, 9, 8),) and found.points == (("background", 1.5, 2),)
    drawn = found.scribbles
    assert drawn.shape == (20, 30) and drawn.dtype == np.uint8 and set(np.unique(drawn)) == {0, 1, 255}
    assert drawn[5, 10] == 1 and drawn[9, 15] == 1 and drawn[10, 20] == 0 and drawn[5, 18] == 255
    with pytest.raises(ValueError, match="needs the classes"):
        read_marks(tmp_path)
    polygon = labelme(("cat", "polygon", [[1, 1], [6, 2], [1, 9]]), ("dog", "circle", [[10, 10], [13, 14]]))
    read = read_marks(write(tmp_path / "a.json", polygon), NAMES)["a"]
    assert read.boxes == (("cat", 1, 1, 6, 9), ("dog", 5, 5, 15, 15))  # the box around
    with pytest.raises(ValueError, match="is not one of the classes"):  # a box of the background says nothing
        read_marks(write(tmp_path / "a.json", labelme(("background", "rectangle", [[1, 1], [2, 2]]))), NAMES)


def region(kind: str, **value: object) -> dict:
    return {"type": kind, "original_width": 200, "original_height": 100, "image_rotation": 0, "value": value}


def test_label_studio(tmp_path):
    box = region("rectanglelabels", x=10, y=20, width=50, height=5, rotation=0, rectanglelabels=["cat"])
    point = region("keypointlabels", x=1, y=100, width=0.5, keypointlabels=["background"])
    tasks = [
        {"data": {"image": "/data/local-files/?d=set/a%20b.jpg"}, "annotations": [{"result": [box, point]}]},
        {"data": {"image": "/data/upload/3/c.png"}, "annotations": [{"result": []}]},
        {"data": {"img": "https://example.org/x/d.jpg?v=1"}, "annotations": []},
        {"data": {"image": "e.jpg"}, "annotations": [{"result": [region("choices", choices=["dog", "cat"])]}]},
    ]
    marks = read_marks(write(tmp_path / "ls.json", tasks), NAMES)
    assert set(marks) == {"set/a b", "c", "e"}  # d has not been looked at
    assert marks["set/a b"].boxes == (("cat", 20, 20, 120, 25),)
    assert marks["set/a b"].points == (("background", 2, 100),)
    assert marks["c"].tags == () and marks["e"].tags == ("dog", "cat")
    box["value"] |= {"x": 50, "y": 50, "width": 10, "height": 20, "rotation": 90}  # clockwise around its top left
    assert read_marks(write(tmp_path / "ls.json", tasks), NAMES)["set/a b"].boxes == (("cat", 80, 50, 100, 70),)
    tasks[0]["annotations"] = [{"result": [region("vectorlabels", vertices=[], vectorlabels=["cat"])]}]
    with pytest.raises(ValueError, match="'vectorlabels'; allowed: rectanglelabels"):
        read_marks(write(tmp_path / "ls.json", tasks), NAMES)
    tasks[0]["annotations"] = [{"result": [region("brushlabels", rle=[1], brushlabels=["cat"])]}]
    with pytest.warns(UserWarning, match="a brush mask is a list of bytes"):
        marks = read_marks(write(tmp_path / "ls.json", tasks), NAMES)
    with pytest.raises(ValueError, match="a brush mask is a list of bytes"):
        lookup_marks(marks, "set/a b.jpg")


def test_scribble_pngs_are_read_when_looked_up(tmp_path):
    drawn = np.full((5, 7), 255, np.uint8)
    drawn[1, 2:5], drawn[3, 1] = 2, 0
    image = Image.fromarray(drawn)
    image.putpalette([0] * 768)
    (tmp_path / "s").mkdir()
    image.save(tmp_path / "s" / "a.png")
    Image.fromarray(drawn).save(tmp_path / "s" / "b.png")
    (tmp_path / "s" / "broken.png").write_text("no")
    marks = read_marks(tmp_path / "s", NAMES)
    for name in "ab":
        assert np.array_equal(marks[name].scribbles, drawn)
    with pytest.raises(ValueError, match=r"broken\.png"):
        marks["broken"]
    with pytest.raises(ValueError, match=r"labels \[2\]; allowed: 0 to 1"):
        read_scribbles(tmp_path / "s" / "a.png", ["cat"])
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(ValueError, match=r"rgb\.png.*black is a stroke of background"):
        read_scribbles(tmp_path / "rgb.png")
    Image.fromarray(np.zeros((5, 7), np.uint8)).convert("CMYK").save(tmp_path / "c.tif")
    with pytest.raises(ValueError, match="mode CMYK"):
        read_scribbles(tmp_path / "c.tif")


def test_wrong_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="allowed: VOC XML"):
        read_marks(tmp_path / "no")
    with pytest.raises(ValueError, match="no file of a known kind"):
        read_marks(tmp_path)
    write(tmp_path / "a.json", {"foo": 1})
    with pytest.raises(ValueError, match=r"none of the known forms.*COCO json"):
        read_marks(tmp_path)
    (tmp_path / "a.xml").write_text("<a")
    with pytest.raises(ValueError, match=r"\.json and \.xml"):
        read_marks(tmp_path)
    with pytest.raises(ValueError, match="not XML"):
        read_marks(tmp_path / "a.xml")


def test_lookup_by_source(tmp_path):
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "a.xml").write_text(voc_xml(("cat", 1, 1, 4, 3)))
    (tmp_path / "photos").mkdir()
    for name in "ab":
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / f"{name}.jpg")
    marks = read_marks(tmp_path / "ann")
    a, b = list_sources(tmp_path / "photos")
    assert lookup_marks(marks, a).boxes == (("cat", 0, 0, 4, 3),)
    assert lookup_marks(marks, b) is None


def test_merging_kinds():
    top, under = np.full((2, 3), 255, np.uint8), np.zeros((2, 3), np.uint8)
    top[0, 0] = 1
    one = WeakLabels(tags=("cat",), boxes=(("cat", 0, 0, 1, 1),), scribbles=under)
    two = WeakLabels(tags=("dog", "cat"), points=(("dog", 1, 1),), scribbles=top)
    both = merge_marks(one, two)
    assert both.tags == ("cat", "dog") and both.boxes == one.boxes and both.points == two.points
    assert both.scribbles.tolist() == [[1, 0, 0], [0, 0, 0]] and not under.any()
    assert merge_marks(WeakLabels(), one).tags == ("cat",)
    assert merge_marks(one, WeakLabels()).scribbles is under


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 19)), min_size=2, max_size=5))
def test_lines_pass_through_their_corners(corners):
    drawn = draw_lines([("dog", corners)], NAMES, (20, 30))
    assert drawn.shape == (20, 30) and set(np.unique(drawn)) <= {2, 255}
    for x, y in corners[:1]:
        assert (drawn[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] == 2).any()


def test_pictures_that_differ_in_the_suffix_only_are_two(tmp_path):
    images = [{"id": i, "file_name": name} for i, name in enumerate(["a.jpg", "a.png", "b.jpg", "x/a.jpg"])]
    boxes = [{"image_id": i, "category_id": i % 2, "bbox": [i, 1, 5, 5]} for i in (0, 1, 1, 2, 3)]
    kinds = [{"id": i, "name": name} for i, name in enumerate(NAMES)]
    marks = read_marks(write(tmp_path / "c.json", {"images": images, "annotations": boxes, "categories": kinds}))
    assert set(marks) == {"a.jpg", "a.png", "b", "x/a"}
    assert [box[0] for box in lookup_marks(marks, "a.jpg").boxes] == ["cat"]
    assert [box[0] for box in lookup_marks(marks, "a.png").boxes] == ["dog", "dog"]
    assert len(lookup_marks(marks, "b.jpg").boxes) == len(lookup_marks(marks, "b.png").boxes) == 1
