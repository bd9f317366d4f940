"""The result never contradicts a label, whatever the scores are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clipseg_ws.stages.constrain import apply_constraints, box_maps, constrained_label, spread_seeds
from clipseg_ws.stages.grid_marks import grid_marks
from clipseg_ws.structures import Vocabulary, WeakLabels
from clipseg_ws.weak.constraints import constraints
from clipseg_ws.weak.placement import LabelConflict

NAMES = ("cat", "dog", "sofa")


@st.composite
def pictures(draw, side: int = 7):
    """(weak labels, size, scores): any marks, also ones that no answer can satisfy."""
    height, width = draw(st.integers(1, side)), draw(st.integers(1, side))
    spot_x, spot_y = st.integers(0, width - 1), st.integers(0, height - 1)

    def box():
        x, y = draw(spot_x), draw(spot_y)
        return (draw(st.sampled_from(NAMES)), x, y, draw(st.integers(x + 1, width)), draw(st.integers(y + 1, height)))

    boxes = tuple(box() for _ in range(draw(st.integers(0, 4))))
    words = st.sampled_from((*NAMES, "background"))
    points = tuple((draw(words), draw(spot_x), draw(spot_y)) for _ in range(draw(st.integers(0, 3))))
    strokes = draw(st.none() | st.just(True))
    if strokes is not None:
        flat = draw(
            st.lists(st.sampled_from([0, 1, 2, 3, *[255] * 12]), min_size=height * width, max_size=height * width)
        )
        strokes = np.array(flat, np.uint8).reshape(height, width)
    tags = draw(st.none() | st.lists(st.sampled_from(NAMES), unique=True).map(tuple))
    seed = draw(st.integers(0, 10**6))
    scores = torch.rand(1, 4, height, width, generator=torch.Generator().manual_seed(seed))
    if draw(st.booleans()):
        scores = (scores > 0.5).float()  # ties and zeros
    return WeakLabels(tags, boxes, points, strokes), (height, width), scores


def contradictions(labels: np.ndarray, weak: WeakLabels) -> list[str]:
    """Read from the definition, pixel by pixel: what an answer breaks."""
    number = {name: i + 1 for i, name in enumerate(NAMES)} | {"background": 0}
    broken = []
    tags = set(NAMES) if weak.tags is None else set(weak.tags)
    for name in NAMES:
        mine = [b for b in weak.boxes if b[0] == name]
        for y, x in np.argwhere(labels == number[name]):
            if name not in tags:
                broken.append(f"{name} is no tag")
            if mine and not any(b[1] <= x < b[3] and b[2] <= y < b[4] for b in mine):
                broken.append(f"{name} outside its boxes")
    for name, x0, y0, x1, y1 in weak.boxes:
        if not (labels[y0:y1, x0:x1] == number[name]).any():
            broken.append(f"empty box of {name}")
    broken += [f"point {p}" for p in weak.points if labels[int(p[2]), int(p[1])] != number[p[0]]]
    if weak.scribbles is not None:
        drawn = weak.scribbles != 255
        broken += ["scribble"] * bool((labels[drawn] != weak.scribbles[drawn]).any())
    return broken


@settings(max_examples=100, deadline=None)
@given(pictures(), st.sampled_from([0.0, 0.3]))
def test_no_label_is_contradicted(picture, min_area):
    weak, size, scores = picture
    try:
        marks = constraints(weak, NAMES, size)
    except LabelConflict:
        assume(False)
    labels, confidence = constrained_label(scores, marks, min_area=min_area)
    assert contradictions(labels[0].numpy(), weak) == []
    assert marks.allow.gather(0, labels)[0].all()
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert (confidence[0][marks.seed >= 0] == 1).all()


@settings(max_examples=30, deadline=None)
@given(pictures(side=2))
def test_only_what_cannot_be_satisfied_is_refused(picture):
    """Against all label maps of a tiny picture."""
    weak, size, _ = picture
    possible = any(
        not contradictions(np.array(values).reshape(size), weak)
        for values in itertools.product(range(4), repeat=size[0] * size[1])
    )
    named = {b[0] for b in weak.boxes} | {p[0] for p in weak.points} - {"background"}
    if weak.scribbles is not None:
        named |= {NAMES[v - 1] for v in np.unique(weak.scribbles) if 0 < v < 255}
    same = [b[0] for b in weak.boxes]
    assume(len(same) == len(set(same)))  # overlapping boxes of one class ask for a pixel each: documented
    try:
        constraints(weak, NAMES, size)
        refused = False
    except LabelConflict:
        refused = True
    assert refused == (not possible or (weak.tags is not None and not named <= set(weak.tags)))


def test_one_pixel_box_and_equal_boxes():
    same = (("cat", 2, 1, 3, 2), ("cat", 2, 1, 3, 2), ("cat", 0, 0, 6, 4), ("dog", 2, 1, 4, 2))
    marks = constraints(WeakLabels(boxes=same), NAMES, (4, 6))
    scores = torch.zeros(1, 4, 4, 6)
    scores[:, 0] = 1
    labels, _ = constrained_label(scores, marks)
    assert labels[0, 1, 2] == 1 and labels[0, 1, 3] == 2
    with pytest.raises(LabelConflict, match="no pixel left"):
        constraints(WeakLabels(boxes=(("cat", 2, 1, 3, 2), ("dog", 2, 1, 3, 2))), NAMES, (4, 6))


def test_boxes_give_way_to_one_another():
    """a takes its best pixel, which is b's only one: a must move."""
    marks = constraints(
        WeakLabels(boxes=(("cat", 0, 0, 2, 1), ("dog", 1, 0, 3, 1), ("sofa", 2, 0, 4, 1))), NAMES, (1, 4)
    )
    scores = torch.zeros(1, 4, 1, 4)
    scores[0, 0] = 1
    scores[0, 1] = torch.tensor([0, 0.5, 0, 0])
    scores[0, 2] = torch.tensor([0, 0, 0.5, 0])
    scores[0, 3] = torch.tensor([0, 0, 0.5, 0])
    labels, _ = constrained_label(scores, marks)
    assert labels.flatten().tolist() == [1, 2, 3, 0]  # the sofa wins its pixel, the dog moves, so does the cat


def test_impossible_labels_are_named():
    with pytest.raises(LabelConflict, match="two labels"):
        constraints(WeakLabels(points=(("cat", 1, 1), ("dog", 1, 1))), NAMES, (4, 6))
    with pytest.raises(LabelConflict, match="outside the boxes"):
        constraints(WeakLabels(points=(("cat", 5, 3),), boxes=(("cat", 0, 0, 2, 2),)), NAMES, (4, 6))
    with pytest.raises(LabelConflict, match="marks name dog, the tags are cat"):
        constraints(WeakLabels(tags=("cat",), points=(("dog", 1, 1),)), NAMES, (4, 6))
    with pytest.raises(ValueError, match="known: cat, dog, sofa"):
        constraints(WeakLabels(tags=("cow",)), NAMES, (4, 6))
    with pytest.raises(ValueError, match=r"\[6, 4\].*\[4, 6\]"):
        constraints(WeakLabels(scribbles=np.full((6, 4), 255, np.uint8)), NAMES, (4, 6))
    with pytest.raises(ValueError, match="outside the picture"):
        constraints(WeakLabels(boxes=(("cat", 7, 0, 9, 2),)), NAMES, (4, 6))
    with pytest.raises(ValueError, match="outside the picture"):
        constraints(WeakLabels(points=(("cat", 7, 0),)), NAMES, (4, 6))


def test_allow_and_seed_maps():
    words = Vocabulary(names=NAMES, synonyms=(("cat", "kitten"), ("dog",), ("sofa",)))
    weak = WeakLabels(boxes=(("Kitten", 0.4, 1, 2.2, 3),), points=(("background", 5.9, 0),))
    marks = constraints(weak, words, (4, 6), point_radius=0)
    expected = np.zeros((4, 6), bool)
    expected[1:3, 0:3] = True  # every pixel that the box touches
    assert np.array_equal(marks.allow[1].numpy(), expected)
    assert marks.present == (0,) and not marks.allow[2:].any()
    assert marks.allow[0].all() and marks.seed.max() == 0 and marks.seed[0, 5] == 0
    assert (marks.seed == -1).sum() == 23


def test_discs_of_points_meet_halfway_and_stay_in_boxes():
    weak = WeakLabels(points=(("cat", 1, 2), ("dog", 4, 2)), boxes=(("dog", 4, 0, 7, 5),))
    seed = constraints(weak, NAMES, (5, 7), point_radius=2).seed
    assert seed[2].tolist() == [1, 1, 1, 1, 2, 2, 2]
    assert (seed[:, :4] != 2).all()


def test_select_keeps_labels_with_their_classes():
    weak = WeakLabels(boxes=(("sofa", 0, 0, 2, 2),), points=(("dog", 4, 1),))
    marks = constraints(weak, NAMES, (4, 6), point_radius=0).select([1, 2])
    assert marks.boxes == ((2, 0, 0, 2, 2),) and marks.seed[1, 4] == 1 and marks.allow.shape == (3, 4, 6)
    assert marks.allow[2].sum() == 4
    with pytest.raises(ValueError, match="leave out"):
        constraints(weak, NAMES, (4, 6)).select([1])


def test_apply_constraints_before_a_refiner():
    marks = constraints(
        WeakLabels(points=(("cat", 0, 0),), boxes=(("dog", 2, 0, 4, 2),)), NAMES, (2, 4), point_radius=0
    )
    out = apply_constraints(torch.full((1, 4, 2, 4), 0.5), marks)
    assert out[0, :, 0, 0].tolist() == [0, 1, 0, 0]
    assert (out[0, 2, :, :2] == 0).all() and (out[0, 2, :, 2:] == 0.5).all() and (out[0, 3] == 0).all()


def test_maps_on_the_patch_grid():
    marks = constraints(
        WeakLabels(points=(("cat", 9, 1),), boxes=(("dog", 0, 0, 5, 4),)), NAMES, (8, 12), point_radius=0
    )
    free = constraints(WeakLabels(tags=("sofa",)), NAMES, (12, 8))  # a picture of another size, of one class
    classes = torch.tensor([[0, 1, 2], [2, -1, -1]])
    batch = grid_marks([marks, free], classes, (2, 3)).apply(torch.full((2, 3, 2, 3), 0.25))  # cells of 4 x 4 pixels
    maps = batch[0]
    assert (batch[1, 0] == 0.25).all() and not batch[1, 1:].any()
    assert maps[0].tolist() == [[0.25, 0.25, 1], [0.25, 0.25, 0.25]]
    assert maps[1].tolist() == [[0.25, 0.25, 0], [0, 0, 0]]
    assert not maps[2].any()


def test_maps_are_stretched_in_each_box():
    marks = constraints(WeakLabels(boxes=(("cat", 0, 0, 2, 1), ("cat", 2, 0, 4, 1))), NAMES, (1, 4)).select([0, 1])
    maps = torch.tensor([[[0.1, 0.2, 0.6, 0.6]], [[0.3, 0.3, 0.3, 0.3]]])
    out = box_maps(maps, marks, prior=0.5)
    assert torch.allclose(out[0, 0], torch.tensor([0.5, 1, 0.5, 0.5]))
    assert torch.equal(out[1], maps[1])


def test_seeds_spread_over_like_colours_up_to_an_edge():
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    image[:, :, 18:] = 200  # an edge that lies nearer to the dog
    weak = WeakLabels(points=(("cat", 2, 10), ("dog", 27, 10)))
    marks = constraints(weak, NAMES, (20, 30)).select([0, 1])
    out = spread_seeds(torch.full((3, 20, 30), 0.5), image, marks)
    assert torch.allclose(out.sum(0), torch.ones(20, 30), atol=1e-5)
    nearest = out[1:].argmax(0)
    assert (nearest[:, :17] == 0).all() and (nearest[:, 20:] == 1).all()
    nothing = constraints(WeakLabels(tags=("cat",)), NAMES, (20, 30)).select([0])
    scores = torch.rand(2, 20, 30)
    assert torch.equal(spread_seeds(scores, image, nothing), scores)
