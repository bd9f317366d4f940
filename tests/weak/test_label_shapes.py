"""Shapes that are no boxes, files that are damaged or in other encodings, scribbles in colours."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from label_files import BOX, labelme, picture, region, shape, task, voc, voc_object, write
from PIL import Image

from clipseg_ws.files import TextWarning, read_text
from clipseg_ws.output.formats.labelstudio import encode_brush, label_studio_task
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.stored import voc_palette
from clipseg_ws.weak.collecting import LabelWarning
from clipseg_ws.weak.label_files import read_label_files
from clipseg_ws.weak.marks import lookup_marks, read_marks
from clipseg_ws.weak.readers.brush import decode_brush
from clipseg_ws.weak.readers.scribbles import read_scribbles
from clipseg_ws.weak.tags import read_tags

NAMES = ("tree", "mushroom")


def boxes_of(path, place="a.png", names=None):
    return tuple((n, *(round(v, 3) for v in box)) for n, *box in lookup_marks(read_marks(path, names), place).boxes)


@pytest.mark.parametrize(
    "drawn, wanted",
    [
        (shape("polygon", [[10, 20], [50, 30], [20, 60]]), ("tree", 10, 20, 50, 60)),
        (shape("circle", [[50, 50], [53, 54]]), ("tree", 45, 45, 55, 55)),
        (shape("mask", [[10, 20], [50, 60]]) | {"mask": "iVBORw0KGgo="}, ("tree", 10, 20, 50, 60)),
        (shape("polygon", [[10, 20], [50, 30], [20, 60]]) | {"shape_type": None}, ("tree", 10, 20, 50, 60)),
    ],
)
def test_the_box_around_labelmes_shapes(tmp_path, drawn, wanted):
    picture(tmp_path / "a.png")
    assert boxes_of(write(tmp_path / "a.json", labelme(drawn)), tmp_path / "a.png") == (wanted,)


def test_a_shape_without_area_beside_a_good_one_is_said(tmp_path):
    path = write(tmp_path / "a.json", labelme(BOX, shape("polygon", [[1, 1], [2, 2]]), shape("cuboid", [[1, 1]])))
    with pytest.warns(LabelWarning, match=r"shape 2 \(polygon of 'tree'\): 2 points.*shape 3.*no known shape"):
        assert boxes_of(path) == (("tree", 10, 20, 50, 60),)


def brush(rows, columns, size=(56, 112), label="tree", **more):
    mask = np.zeros(size, bool)
    mask[rows, columns] = True
    value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": [label]}
    return {"type": "brushlabels", "original_width": size[1], "original_height": size[0], "id": "b", "value": value}


@pytest.mark.parametrize(
    "drawn, wanted",
    [
        (region(("tree",), "polygonlabels", points=[[10, 20], [50, 20], [10, 60]]), ("tree", 11.2, 22.4, 56, 67.2)),
        (region(("tree",), "ellipselabels", x=50, y=50, radiusX=10, radiusY=25), ("tree", 44.8, 28, 67.2, 84)),
        (
            region(("tree",), "ellipselabels", x=50, y=50, radiusX=10, radiusY=25, rotation=90),
            ("tree", 28, 44.8, 84, 67.2),
        ),
        (brush(slice(10, 20), slice(30, 41), (112, 112)), ("tree", 30, 10, 41, 20)),
        (brush(5, 7, (112, 112)), ("tree", 7, 5, 8, 6)),
    ],
)
def test_the_box_around_label_studios_shapes(tmp_path, drawn, wanted):
    picture(tmp_path / "a.png")
    assert boxes_of(write(tmp_path / "t.json", [task(drawn)]), tmp_path / "a.png") == (wanted,)


def test_a_brush_mask_is_decoded_exactly_and_a_damaged_one_is_named(tmp_path):
    rng = np.random.default_rng(0)
    for size in ((1, 1), (7, 9), (190, 211)):
        mask = rng.random(size) < 0.4
        assert np.array_equal(decode_brush(encode_brush(mask), size), mask)
    code = encode_brush(mask)
    for bad, words in ((code[:50], "ends too early"), ([300], "list of bytes"), ("x", "list of bytes"), (None, "list")):
        with pytest.raises(ValueError, match=words):
            decode_brush(bad, size)
    with pytest.raises(ValueError, match="the picture has 12 pixels"):
        decode_brush(code, (3, 4))


def test_ignored_pixels_of_an_export_become_no_class(tmp_path):
    labels = np.zeros((112, 112), np.uint8)
    labels[10:20, 30:41], labels[50:60, 5:9] = 1, 255
    exported = label_studio_task(labels, NAMES, "a.png")
    exported["annotations"] = exported.pop("predictions")  # as somebody accepts them
    picture(tmp_path / "a.png")
    path = write(tmp_path / "t.json", [exported])
    for names in (None, NAMES):
        assert boxes_of(path, tmp_path / "a.png", names) == (("tree", 30, 10, 41, 20),)
    assert ("ignore", 5, 50, 9, 60) in boxes_of(path, tmp_path / "a.png", ("tree", "ignore"))


@pytest.mark.parametrize("damaged", ['{"shapes": [', "", "\x00\x01", '{"version": 1}'])
def test_a_damaged_file_of_a_folder_is_named_and_the_rest_goes_on(tmp_path, damaged):
    for name in "abc":
        picture(tmp_path / f"p/{name}.png")
        write(tmp_path / f"l/{name}.json", labelme(BOX, image=f"{name}.png"))
    write(tmp_path / "l/b.json", damaged)
    sources = list_sources(tmp_path / "p")
    with pytest.warns(LabelWarning, match=r"b\.json"):
        labels = read_label_files(None, [tmp_path / "l"], sources)
    assert [labels.labels(s).boxes for s in (sources[0], sources[2])] == [(("tree", 10, 20, 50, 60),)] * 2
    with pytest.raises(ValueError, match=r"b\.json"):
        labels.labels(sources[1])
    for name in "ac":
        (tmp_path / f"l/{name}.json").unlink()
    with pytest.raises(ValueError, match=r"b\.json"):  # nothing else is there
        read_marks(tmp_path / "l")


def test_a_damaged_xml_among_tags(tmp_path):
    write(tmp_path / "x/a.xml", voc(voc_object(1, 1, 4, 4)))
    write(tmp_path / "x/b.xml", "<annotation><object>")
    with pytest.warns(LabelWarning, match=r"b\.xml.*not XML"):
        tags = read_tags(tmp_path / "x")
    assert dict(tags) == {"a": ("tree",)} and "b" in tags.broken


def test_json_lines(tmp_path):
    lines = [{"image": "a.png", "tags": ["tree"]}, {"image": "b.png", "label": "mushroom"}]
    text = "\n".join(map(json.dumps, lines)) + "\n\n"
    for name in ("t.jsonl", "t.json"):
        assert dict(read_tags(write(tmp_path / name, text))) == {"a": ("tree",), "b": ("mushroom",)}
    with pytest.raises(ValueError, match=r"t\.jsonl.*not JSON \(line 4\)"):
        read_tags(write(tmp_path / "t.jsonl", text + "{broken\n"))
    studio = "\n".join(json.dumps(task(region(), image=f"{name}.png")) for name in "ab")
    assert set(read_marks(write(tmp_path / "ls.json", studio))) == {"a", "b"}


def test_windows_text(tmp_path):
    path = write(tmp_path / "t.csv", "image,tags\nGröße 1.png,Bäume;ça\n", "cp1252")
    with pytest.warns(TextWarning, match=r"t\.csv' is read as Windows text"):
        assert dict(read_tags(path)) == {"Größe 1": ("Bäume", "ça")}
    for text, encoding in (("a.png,кошка\n", "cp1251"), ("a.png,汽车\n", "gb2312"), ("a,猫犬車\n", "shift-jis")):
        with pytest.raises(ValueError, match="not a UTF-8"):
            read_tags(write(tmp_path / "u.csv", text, encoding))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_text(write(tmp_path / "v.txt", "Größe", "utf-8")) == "Größe"


def test_scribbles_in_colours(tmp_path):
    numbers = np.full((6, 8), 255, np.uint8)
    numbers[1, 1:4], numbers[3, 2:6], numbers[5] = 0, 1, 2
    colours = voc_palette()[numbers]
    white = np.where((numbers == 255)[..., None], 255, colours).astype(np.uint8)
    clear = np.dstack([colours, np.where(numbers == 255, 0, 255)]).astype(np.uint8)
    plain = Image.fromarray(numbers)
    indexed = Image.fromarray(numbers)
    indexed.putpalette(voc_palette().tobytes())
    shuffled = Image.fromarray(colours).quantize(8)
    grey = Image.fromarray(numbers)
    grey.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    drawn = {"rgb": Image.fromarray(colours), "white": Image.fromarray(white), "clear": Image.fromarray(clear)}
    drawn |= {"plain": plain, "indexed": indexed, "shuffled": shuffled, "grey": grey}
    assert not np.array_equal(np.asarray(shuffled), numbers)
    for name, image in drawn.items():
        image.save(tmp_path / f"{name}.png")
        assert np.array_equal(read_scribbles(tmp_path / f"{name}.png", NAMES), numbers), name
    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "odd.png")
    with pytest.raises(ValueError, match=r"odd\.png.*#010203 are no labels"):
        read_scribbles(tmp_path / "odd.png", NAMES)


@pytest.mark.parametrize("name", [5, 0.5, None, ["tree"], {"tree": 1}])
def test_a_class_that_is_no_text_is_named_and_the_rest_goes_on(tmp_path, name):
    good, bad = task(region(("tree",))), task(region((name,)), image="b.png") | {"id": 2}
    with pytest.warns(LabelWarning, match="class is called|cannot be used|left out"):
        marks = read_marks(write(tmp_path / "s.json", json.dumps([good, bad])))
    assert marks["a"].boxes[0][0] == "tree"
    with pytest.raises(ValueError, match="class is called"):
        marks["b"]
