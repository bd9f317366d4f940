"""What a run asks (predict, pseudo, fewshot): every field of the question, the settings, the models and the labels."""

from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest

from clipseg_ws.config import SETTINGS, Config
from clipseg_ws.config.settings import known_keys
from clipseg_ws.run.asked import SPEED, content_of, labels_digest
from clipseg_ws.stages.question import Question
from clipseg_ws.structures import Vocabulary, WeakLabels

WORDS = Vocabulary(("cat", "dog"), (("cat",), ("dog",)), ("sky",), prompts=((), ()))
OTHER_WORDS = {  # field -> another value; every field must be here
    "names": ("cat", "hound"), "synonyms": (("cat", "kitten"), ("dog",)), "background": (), "templates": ("a {}.",),
    "fusion": "max", "prompts": (("a pet",), ()), "kinds": (("kitten",), ()),
}  # fmt: skip


def examples(digest="one"):
    return SimpleNamespace(matcher=SimpleNamespace(source=SimpleNamespace(digest=lambda: digest)))


QUESTION = Question(WORDS, None, examples())
OTHER_QUESTION = {"vocabulary": replace(WORDS, names=("cat", "hound")), "text": WORDS, "examples": examples("two")}


class Made:
    """A Segmenter as far as a run's identity looks at one."""

    def __init__(self, *, weights="w", features=None, head=None, setting=None, **changed):
        self.backbone = SimpleNamespace(weights_sha256=weights)
        self.features = None if features is None else SimpleNamespace(weights_sha256=features)
        self.head = None if head is None else SimpleNamespace(sha256=head)
        self.setting, self.changed = setting, changed

    def config_of(self, setting):
        changed = self.changed if self.setting in (None, setting) else {}
        return SimpleNamespace(as_dict=lambda: Config().as_dict() | changed)


def asked(segmenter=None, question=QUESTION, about=None):
    return content_of(segmenter or Made(), question, about or {})


def test_every_field_of_the_question_is_known_here():
    assert set(OTHER_WORDS) == {item.name for item in fields(Vocabulary)}
    assert set(OTHER_QUESTION) | {"unknown"} == {item.name for item in fields(Question)}  # "unknown" follows from words


@pytest.mark.parametrize("field", OTHER_WORDS)
def test_other_words(field):
    assert asked(question=replace(QUESTION, vocabulary=replace(WORDS, **{field: OTHER_WORDS[field]}))) != asked()


@pytest.mark.parametrize("field", OTHER_QUESTION)
def test_another_question(field):
    assert asked(question=replace(QUESTION, **{field: OTHER_QUESTION[field]})) != asked()


@pytest.mark.parametrize("key", sorted(Config().as_dict()))
def test_every_setting_but_those_of_speed(key):
    """Without a question, whose templates go before those of the settings."""
    assert (asked(Made(**{key: "another value"}), None) != asked(question=None)) == (key not in SPEED)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_of_one_setting_only(setting):
    assert asked(Made(setting=setting, alpha=2.0)) != asked()


def test_speed_settings_exist():
    assert set(SPEED) <= set(known_keys())


def test_models_and_what_else_decides():
    others = [
        asked(), asked(Made(weights="v")), asked(Made(features="f")), asked(Made(head="h")), asked(about={"a": 0.5}),
        asked(question=replace(QUESTION, examples=None)), asked(question=None),
    ]  # fmt: skip
    assert all(one != other for k, one in enumerate(others) for other in others[:k])


LABELS = WeakLabels(("cat", "dog"), (("cat", 0, 0, 5, 5),), (("dog", 1, 2),), np.array([[0, 255], [1, 255]], np.uint8))
OTHER_LABELS = {
    "tags": ("cat",), "boxes": (("cat", 0, 0, 5, 6),), "points": (("dog", 2, 1),),
    "scribbles": np.array([[0, 255, 1, 255]], np.uint8),
}  # fmt: skip


@pytest.mark.parametrize("field", [item.name for item in fields(WeakLabels)])
def test_every_field_of_a_pictures_labels(field):
    assert labels_digest(replace(LABELS, **{field: OTHER_LABELS[field]})) != labels_digest(LABELS)
    assert labels_digest(replace(LABELS, tags=("dog", "cat"))) == labels_digest(LABELS)
