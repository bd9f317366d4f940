"""What a model says of itself: read from its folder, checked, and where it arrives."""

from __future__ import annotations

import json

import pytest
from conftest import tiny_clip

from clipseg_ws.backbones import ModelCard, load_backbone, wrap
from clipseg_ws.backbones.card import read_card
from clipseg_ws.embedded.nano import CONFIG
from clipseg_ws.embedded.nano.scenes import KINDS, SYNONYMS


def test_a_model_without_a_card_says_nothing(tiny_backbone):
    card = tiny_backbone.card
    assert (card.recommended, card.known_classes, card.known_words, card.default_classes) == ({}, (), (), ())
    assert read_card(None, "f") == ModelCard(file="f")


def test_known_words_are_the_names_unless_more_are_said():
    assert ModelCard(known_classes=("cat", "dog")).known_words == ("cat", "dog")
    assert read_card({"known_classes": ["cat"], "known_words": ["cat", "kitty"]}, "f").known_words == ("cat", "kitty")


def test_nanos_card_arrives_and_knows_its_synonyms():
    backbone = load_backbone("nano")
    assert backbone.card.file == str(CONFIG) and backbone.known_classes == KINDS
    assert set(backbone.card.known_words) == {word for kind in KINDS for word in (kind, *SYNONYMS[kind])}
    assert backbone.recommended is backbone.card.recommended
    assert backbone.with_positions("bilinear").card is backbone.card


def test_wrap_takes_a_card():
    card = ModelCard({"alpha": 2.0}, ("house",))
    backbone = wrap(tiny_clip(), card=card)
    assert backbone.card is card and backbone.recommended == {"alpha": 2.0} and backbone.known_classes == ("house",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], r"clipseg_ws is a list \(\[1\]\); an object is needed"),
        ({"known_clases": ["cat"]}, "clipseg_ws has the key 'known_clases'; allowed are recommended, known_classes,"),
        ({"recommended": ["alpha"]}, "recommended is a list"),
        ({"known_classes": "cat"}, "known_classes is a text .*a list of names"),
        ({"known_words": ["cat", 1]}, "known_words is a list"),
        ({"kinds": ["cat"]}, "kinds is a list"),
        ({"kinds": {"pet": "cat"}}, "kinds is an object"),
        ({"default_classes": ["cat", " "]}, "default_classes is a list"),
    ],
)
def test_a_card_that_cannot_be_names_its_file(tmp_path, content, message):
    with pytest.raises(ValueError, match=f"^there.json: {message}"):
        read_card(content, "there.json")
    settings = json.loads(CONFIG.read_text()) | {"clipseg_ws": content}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"not read")
    with pytest.raises(ValueError, match=message):
        load_backbone(f"local-dir:{tmp_path}")
