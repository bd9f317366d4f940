"""A pixel for every box, against what the rule says box by box."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipseg_ws.structures import WeakLabels
from clipseg_ws.weak.constraints import constraints
from clipseg_ws.weak.placement import place_in_boxes


def inside(one, other) -> bool:
    return one[1] >= other[1] and one[2] >= other[2] and one[3] <= other[3] and one[4] <= other[4]


def needs_its_own(i: int, boxes) -> bool:
    """No other box of its class lies in it (of equal ones the first counts)."""
    return not any(
        j != i and boxes[j][0] == boxes[i][0] and inside(boxes[j], boxes[i]) and (boxes[j] != boxes[i] or j < i)
        for j in range(len(boxes))
    )


SIDE = st.tuples(st.integers(0, 16), st.integers(2, 12))  # at least 2 x 2: four boxes never lack pixels
BOX = st.tuples(st.integers(1, 3), SIDE, SIDE).map(lambda b: (b[0], b[1][0], b[2][0], sum(b[1]), sum(b[2])))


@given(st.lists(BOX, min_size=1, max_size=4), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_every_box_gets_a_pixel_and_no_box_around_another(boxes, seed):
    scores = np.random.default_rng(seed).uniform(0.1, 1, (4, 30, 30)).astype(np.float32)
    placed = place_in_boxes(scores, np.full((30, 30), -1), boxes)
    assert len(placed) == sum(needs_its_own(i, boxes) for i in range(len(boxes)))
    assert len({(y, x) for _, y, x in placed}) == len(placed)
    for label, x0, y0, x1, y1 in boxes:
        assert any(found == label and x0 <= x < x1 and y0 <= y < y1 for found, y, x in placed)


@pytest.mark.parametrize(("x", "y"), [(3, 8), (3, 10.5), (12.5, 3), (-0.5, 3), (3, -0.5)])
@pytest.mark.parametrize("turned", [False, True])
def test_points_outside_a_picture_that_is_no_square(x, y, turned):
    """Beyond the height of a wide picture, and beyond the width of a tall one."""
    size = (12, 7) if turned else (7, 12)
    point = (y, x) if turned else (x, y)
    with pytest.raises(ValueError, match="outside the picture of " + ("7 x 12" if turned else "12 x 7")):
        constraints(WeakLabels(points=(("cat", *point),)), ["cat"], size)
