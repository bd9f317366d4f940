"""One rule says which class a word means, wherever words come in."""

from __future__ import annotations

import numpy as np
import pytest

from clipseg_ws import Segmenter, Support, WeakLabels
from clipseg_ws.fewshot.labels import match_labels, vocabulary_of
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.stages.banks import predict_masks
from clipseg_ws.stages.by_head import TrainedHead
from clipseg_ws.stages.names import resolve_names
from clipseg_ws.structures import word_key
from clipseg_ws.text.matching import find_class, label_words, same_classes
from clipseg_ws.text.sharpness import _tag_indices
from clipseg_ws.text.vocabulary import parse_classes
from clipseg_ws.weak.constraints import constraints
from clipseg_ws.weak.given import tag_indices
from clipseg_ws.weak.marks import mark_names
from clipseg_ws.weak.names import spellings, spelt

WORDS = parse_classes("polar bear, ice bear; Straße, road; café")
SPELLINGS = {  # what a user writes -> class
    "polar bear": 0, "Polar  Bear": 0, " polar\tbear ": 0, "ICE BEAR": 0, "polar bear, ice bear": 0,
    "bear x, ice bear": 0,
    "straße": 1, "STRASSE": 1, "strasse": 1, "Road": 1, "street, road": 1,
    "café": 2, "cafe\u0301": 2, "CAFÉ": 2,
}  # fmt: skip
STRANGERS = ["bear", "polar bear, café", ",", "cafe"]


@pytest.mark.parametrize("word", SPELLINGS)
def test_every_way_in_finds_the_same_class(word):
    place = SPELLINGS[word]
    name = WORDS.names[place]
    assert find_class(WORDS.index(), word) == place
    assert tag_indices([[word], []], WORDS) == [[place], []]
    assert _tag_indices([word], WORDS) == [place]
    assert match_labels([word], WORDS) == {word: place}
    assert spelt([word, name], spellings(WORDS), WORDS, "here") == (name,)
    box, point = (word, 1, 1, 5, 5), (word, 2, 2)
    marks = constraints(WeakLabels((word,), (box,), (point,)), WORDS, (8, 8))
    assert marks.present == (place,) and marks.boxes[0][0] == place + 1 == marks.seed[2, 2]


@pytest.mark.parametrize("word", STRANGERS)
def test_other_words_are_refused(word):
    assert find_class(WORDS.index(), word) is None
    for ask in (
        lambda: tag_indices([[word]], WORDS), lambda: match_labels([word], WORDS), lambda: _tag_indices([word], WORDS),
        lambda: spelt([word], spellings(WORDS), WORDS, "here"), lambda: constraints(WeakLabels((word,)), WORDS, (8, 8)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"none of which|no class|not one of|class names|holds a comma"):
            ask()


def test_a_name_goes_before_anothers_synonym():
    words = parse_classes([{"name": "bank", "words": ["institute"]}, {"name": "river side", "words": ["Bank"]}])
    assert words.index()["bank"] == 0 and find_class(words.index(), "BANK") == 0


def test_labels_that_share_a_word_are_one_class():
    assert same_classes(["sun", "moon", "Sun", "star, sun"]) == [["sun", "Sun", "star, sun"], ["moon"]]
    assert same_classes(["a", "b", "B ,a", "c"]) == [["a", "b", "B ,a"], ["c"]]
    assert label_words("person,  young  people,,PERSON") == ("person", "young people")
    words = vocabulary_of(["sun", "Sun", "moon", "ball of  fire, SUN"])
    assert words.names == ("sun", "moon") and words.synonyms[0] == ("sun", "ball of fire")


def test_classes_from_tags_in_several_spellings(tiny_backbone):
    config = Segmenter(backbone=tiny_backbone).config
    words = resolve_names(tiny_backbone, config, None, (), [["Cat"], ["cat", "tv  set"], ["TV set"]])
    assert [word_key(name) for name in words.names] == ["cat", "tv set"]
    assert tag_indices([["CAT", "tv set"]], words) == [[0, 1]]


def test_no_background_word_is_a_class(tiny_backbone):
    config = Segmenter(backbone=tiny_backbone, background="stuff26").config
    for spelling in ("SKY-OTHER", "sky"):
        words = resolve_names(tiny_backbone, config, ["Sky", "a  River"], None)
        assert not {word_key(w) for w in words.background} & {"sky", "a river"}, spelling


def test_the_background_in_any_spelling():
    assert mark_names(WeakLabels(points=(("Background", 1, 1), ("cat", 2, 2)))) == {"cat"}
    assert constraints(WeakLabels(points=((" BACKGROUND ", 1, 1),)), ["cat"], (4, 4)).seed[1, 1] == 0


def test_a_heads_classes_by_their_synonyms():
    class Card:
        classes = ("polar bear", "café")

    head = object.__new__(TrainedHead)
    head.card, head.path = Card(), "head"
    words = head.vocabulary("kitten; coffee house, CAFÉ; ice bear, Polar  Bear".partition("; ")[2])
    assert words.names == ("coffee house", "ice bear") and head.places(words) == [1, 0]
    with pytest.raises(ValueError, match="'kitten': the head"):
        head.vocabulary("kitten; polar bear")


@pytest.mark.parametrize("label", ["person, people", "polar  bear", " Cat "])
def test_weak_few_labels_may_be_written_in_any_way(label):
    def segment(pictures, labels):
        words = parse_classes([labels[0]], background=())
        assert tag_indices([[labels[0]]], words) == [[0]]
        mask = np.zeros((8, 8), np.uint8)
        mask[2:5] = 1
        return [Segmentation(mask, words.names, {words.names[0]: 1.0}, np.ones((8, 8), np.float32)) for _ in pictures]

    picture = np.zeros((8, 8, 3), np.uint8)
    (ready,), sure = predict_masks([Support(picture, None, label)], segment)
    assert ready.mask[2:5].all() and ready.mask.sum() == 24 and set(sure) == {0}
