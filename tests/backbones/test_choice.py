"""The model that is taken where nobody names one: what is on this machine, and nothing is fetched."""

from __future__ import annotations

import warnings

import pytest
from stand_in import stand_in_photo

from clipseg_ws import Segmenter
from clipseg_ws.backbones import DEFAULT_MODEL, choose_model, hub, model_card, tags


@pytest.fixture
def photo(monkeypatch, tmp_path):
    """No CLIP in the cache, no network, and a stand-in for photo."""
    def network(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(hub, "cached_file", lambda repo, file: None)
    monkeypatch.setattr(hub, "list_files", network)
    monkeypatch.setattr(hub, "fetch", network)
    return stand_in_photo(monkeypatch, tmp_path / "embedded")


def test_the_usual_clip_where_it_is_cached(monkeypatch, tmp_path):
    said, asked = [], []
    monkeypatch.setattr(hub, "cached_file", lambda repo, file: asked.append((repo, file)) or tmp_path / file)
    assert choose_model(said.append) == DEFAULT_MODEL and said == []
    assert asked[0][0] == tags.resolve_tag(DEFAULT_MODEL).repo


def test_else_photo_said_in_one_line(photo):
    said = []
    assert choose_model(said.append) == "photo"
    (line,) = said
    assert "'photo'" in line and f"clipseg-ws download {DEFAULT_MODEL}" in line and "\n" not in line


def test_a_segmenter_without_a_model_says_which_it_took(photo):
    with pytest.warns(UserWarning, match=r"no model was named: 'photo' is taken.*clipseg-ws download") as said:
        segment = Segmenter()
    assert len(said) == 1 and segment.backbone.name == segment.recipe["model"] == "photo"
    assert segment.backbone.card.file == str(photo / "open_clip_config.json")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Segmenter("photo").backbone.weights_sha256 == segment.backbone.weights_sha256
        assert Segmenter(backbone=segment.backbone).backbone.name == "photo"


def test_cards_are_read_without_weights(photo, tmp_path):
    (photo / "photo.safetensors").unlink()
    assert model_card("photo").default_classes == ("cat", "dog", "sofa")
    assert len(model_card("nano").known_classes) == 12
    assert model_card(f"local-dir:{photo}") == model_card("photo")
    assert model_card(DEFAULT_MODEL).known_classes == model_card("hf:some/where").known_classes == ()
    with pytest.raises(ValueError, match="has no weights 'nothing'"):
        model_card("ViT-B-16/nothing")
    with pytest.raises(FileNotFoundError, match="is no folder"):
        model_card(f"local-dir:{tmp_path / 'none'}")
    (photo / "open_clip_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks open_clip_config\.json"):
        model_card("photo")
