"""Supports of one class under several labels: one class, not rivals."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import scene, shown

from clipseg_ws import Segmenter


@pytest.fixture(scope="module", params=[0.0, 0.7])
def segment(request):
    return Segmenter("nano", dtype="float32", short_side=224, fewshot={"text_weight": request.param})


@pytest.mark.parametrize("labels", [("sun", "Sun"), ("ball of  fire, SUN", " sun")])
def test_synonyms_are_one_class(segment, labels):
    query, classes = scene(3).image, [["sun", "ball of fire"]]
    same = segment(query, classes=classes, supports=[shown(0, "sun", "sun"), shown(1, "sun", "sun")])
    other = segment(query, classes=classes, supports=[shown(i, "sun", label) for i, label in enumerate(labels)])
    assert np.array_equal(same.labels, other.labels) and other.scores == pytest.approx(same.scores)
    assert list(other.config["supports"].values()) == [2]


def test_examples_alone_and_focused(segment):
    query = scene(3).image
    supports = [shown(0, "sun", "sun"), shown(1, "house", "house"), shown(1, "sun", "Sun")]
    alone = segment(query, supports=supports)
    assert alone.names == ("sun", "house") and alone.config["supports"] == {"sun": 2, "house": 1}
    bank = segment.bank(supports)
    assert segment(query, supports=bank).scores == pytest.approx(alone.scores)
    focused = segment(query, supports=bank.focus(["sun"]))
    assert focused.names == ("sun",) and focused.config["supports"] == {"sun": 2, "house": 1}
    assert focused.scores["sun"] == pytest.approx(alone.scores["sun"])


def test_a_nameless_rival_stays_one(segment):
    bank = segment.bank([shown(0, "sun", "sun"), shown(1, "house", "object")])
    focused = segment(scene(3).image, supports=bank.focus(["sun"]))
    assert focused.config["supports"] == {"sun": 1, "object": 1}
    asked = segment(scene(3).image, classes=["sun"], supports=bank)
    assert asked.config["supports"] == {"sun": 2}


def test_renaming_keeps_the_rest(segment):
    bank = segment.bank([shown(0, "sun", "sun"), shown(1, "house", "house")])
    assert bank.renamed({"sun": "sun"}) is bank
    other = bank.focus(["house"]).renamed({"house": "home"})
    assert other.labels == ("sun", "home") and other.asked == ("home",) and bank.labels == ("sun", "house")
