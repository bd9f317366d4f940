"""Which pixels a mark means: boxes cover what they touch, points the pixel they lie in, strokes their width."""

from __future__ import annotations

import json

import numpy as np
import pytest

from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.constraints import constraints
from clipseg_ws.weak.marks import draw_lines, read_marks

NAMES = ["cat", "dog"]


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((1.6, 2.7, 4.2, 5.1), (1, 2, 5, 6)),
        ((1.4, 2.2, 4.9, 5.9), (1, 2, 5, 6)),
        ((1, 2, 4, 5), (1, 2, 4, 5)),
        ((2.9, 3.9, 2.9, 3.9), (2, 3, 3, 4)),
        ((-3.5, -1, 2.5, 1.5), (0, 0, 3, 2)),
        ((7.5, 8.5, 30, 40), (7, 8, 12, 10)),
    ],
)
def test_a_box_covers_every_pixel_that_it_touches(box, pixels):
    found = constraints(WeakLabels(boxes=(("cat", *box),)), NAMES, (10, 12))
    assert found.boxes == ((1, *pixels),)
    x0, y0, x1, y1 = pixels
    want = np.zeros((10, 12), bool)
    want[y0:y1, x0:x1] = True
    assert np.array_equal(found.allow[1].numpy(), want)


@pytest.mark.parametrize(("x", "y"), [(2.7, 3.9), (2.2, 3.1), (2, 3), (2.5, 3.5)])
def test_a_point_is_the_pixel_that_it_lies_in(x, y):
    found = constraints(WeakLabels(points=(("dog", x, y),)), NAMES, (10, 12), point_radius=0)
    assert (found.seed >= 0).nonzero().tolist() == [[3, 2]] and found.seed[3, 2] == 2
    edge = constraints(WeakLabels(points=(("dog", 12, 10),)), NAMES, (10, 12), point_radius=0)
    assert (edge.seed >= 0).nonzero().tolist() == [[9, 11]]


def test_of_two_equally_near_points_the_first_takes_a_pixel():
    for order in (("cat", "dog"), ("dog", "cat")):
        points = tuple((name, x, 3) for name, x in zip(order, (3, 5), strict=True))
        found = constraints(WeakLabels(points=points), NAMES, (8, 9), point_radius=1)
        assert found.seed[3, 4] == NAMES.index(order[0]) + 1
        assert found.seed[3, 2] == NAMES.index(order[0]) + 1 and found.seed[3, 6] == NAMES.index(order[1]) + 1
    nearer = constraints(WeakLabels(points=(("cat", 3, 3), ("dog", 6, 3))), NAMES, (8, 9), point_radius=2)
    assert nearer.seed[3, 4] == 1 and nearer.seed[3, 5] == 2


def test_a_line_is_three_pixels_wide():
    sheet = draw_lines([("dog", [(2, 5), (9, 5)])], NAMES, (11, 12))
    assert np.flatnonzero((sheet == 2).any(1)).tolist() == [4, 5, 6] and set(np.unique(sheet)) == {2, 255}


def test_the_last_annotation_of_a_task_counts(tmp_path):
    def region(name):
        value = {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": [name]}
        return {"type": "rectanglelabels", "original_width": 10, "original_height": 10, "value": value}

    given = [
        {"result": [region("cat")]},
        {"result": [region("dog")]},
        {"result": [region("cat")], "was_cancelled": True},
    ]
    (tmp_path / "a.json").write_text(json.dumps([{"data": {"image": "a.jpg"}, "annotations": given}]))
    assert read_marks(tmp_path / "a.json")["a"].boxes == (("dog", 0, 0, 5, 5),)
