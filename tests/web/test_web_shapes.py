"""Drawings of the browser as weak labels, LabelMe files and masks."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clipseg_ws.weak.marks import lookup_marks, read_marks
from clipseg_ws.web.shapes import MARK_KINDS, PAINT_KINDS, paint_mask, parse_shapes, to_labelme, to_weak

NAMES = ("house", "car")
SIZE = (40, 30)  # width, height


def drawing(*shapes) -> str:
    return json.dumps([{"kind": k, "name": n, "points": p, "width": 4} for k, n, p in shapes])


ALL = drawing(
    ("point", "house", [[5, 6]]),
    ("point", "background", [[39, 29]]),
    ("box", "car", [[30, 20], [12, 8]]),  # drawn from the lower right
    ("scribble", "house", [[1, 1], [9, 1], [9, 5]]),
    ("scribble", "background", [[20.04, 2], [20.04, 2]]),  # one spot only: a point
)


def test_marks_become_weak_labels():
    weak = to_weak(parse_shapes(ALL, SIZE, MARK_KINDS, NAMES), NAMES, SIZE, ["house", "car"])
    assert weak.tags == ("house", "car")
    assert weak.points == (("house", 5, 6), ("background", 39, 29), ("background", 20, 2))
    assert weak.boxes == (("car", 12, 8, 30, 20),)
    assert weak.scribbles.shape == (30, 40) and weak.scribbles[1, 4] == 1 and weak.scribbles[25, 4] == 255
    assert set(np.unique(weak.scribbles)) == {1, 255}
    assert to_weak((), NAMES, SIZE).scribbles is None


def test_the_labelme_file_reads_back_as_the_same_marks(tmp_path):
    shapes = parse_shapes(ALL, SIZE, MARK_KINDS, NAMES)
    (tmp_path / "picture.json").write_text(json.dumps(to_labelme(shapes, "picture.png", SIZE)))
    read = lookup_marks(read_marks(tmp_path / "picture.json", NAMES), "elsewhere/picture.png")
    weak = to_weak(shapes, NAMES, SIZE)
    assert read.boxes == weak.boxes and read.points == weak.points
    assert np.array_equal(read.scribbles, weak.scribbles)


def test_corners_are_moved_inside_the_picture():
    (shape,) = parse_shapes(drawing(("point", "car", [[-3, 99]])), SIZE, MARK_KINDS, NAMES)
    assert shape.corners == ((0, 30),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "draw again"),
        ('{"kind": 1}', "draw again"),
        ("[" * 100_000, "draw again"),
        (drawing(("point", "car", [["1", None]])), "draw again"),
        ('[{"kind": "point", "name": "car", "points": [[NaN, 1]]}]', "draw again"),
        (drawing(("point", "car", [])), "draw again"),
        (drawing(("outline", "car", [[1, 1]])), "'outline' cannot be drawn here"),
        (drawing(("point", "dog", [[1, 1]])), "'dog', which is no class; known: house, car"),
        (drawing(("box", "background", [[1, 1], [5, 5]])), "'background', which is no class"),
        (drawing(*[("point", "car", [[1, 1]])] * 501), "at most 500"),
        (" " * 2_000_001, "too large"),
    ],
)
def test_other_drawings_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_shapes(text, SIZE, MARK_KINDS, NAMES)


def test_no_drawing_is_no_shape():
    assert parse_shapes("", SIZE, MARK_KINDS) == parse_shapes(None, SIZE, MARK_KINDS) == ()
    assert parse_shapes("[]", SIZE, MARK_KINDS, NAMES) == ()


def test_painted_masks():
    shapes = drawing(
        ("outline", "", [[4, 4], [20, 4], [20, 20], [4, 20]]), ("brush", "", [[30, 25]]), ("erase", "", [[12, 12]])
    )
    mask = paint_mask(parse_shapes(shapes, SIZE, PAINT_KINDS), SIZE)
    assert mask.shape == (30, 40) and mask.dtype == np.uint8
    assert mask[5, 5] == mask[18, 18] == mask[25, 30] == 1
    assert mask[12, 12] == mask[1, 1] == mask[25, 22] == 0
    with pytest.raises(ValueError, match="nothing is painted"):
        paint_mask((), SIZE)
