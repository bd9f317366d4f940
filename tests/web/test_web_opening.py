"""What the page opens with and offers to try, and which names stand in the box."""

from __future__ import annotations

import pytest
from conftest import tiny_clip

from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.embedded.photos import PHOTOS
from clipseg_ws.web.opening import (
    is_offered,
    opening,
    opening_names,
    photo_names,
    photo_picture,
    scene_names,
    thumbnails_html,
)

MANY = tuple(f"thing {i}" for i in range(1300))


def test_photo_opens_with_a_photo_and_nano_with_a_scene():
    assert opening("nano").note.startswith("drawn scene")
    for model in ("photo", "ViT-B-16-quickgelu/openai", "local-dir:x"):
        picture = opening(model)
        assert picture.note == "a cat (chelsea.jpg), 451 × 300 pixels" and picture.image.info == {}


def test_a_long_list_of_names_is_never_filled_in():
    assert opening_names("photo", MANY) == opening_names("ViT-B-16-quickgelu/openai", ()) == "cat"
    assert photo_names("astronaut", MANY) == "person; space shuttle"
    assert scene_names(MANY) == scene_names(()) == "; ".join(KINDS)
    assert opening_names("nano", KINDS) == "; ".join(KINDS)
    assert opening_names("local-dir:x", ("nail", "screw")) == photo_names("rocket", ("nail", "screw")) == "nail; screw"


def test_only_what_the_page_filled_in_is_offered():
    for known in (MANY, (), KINDS):
        assert all(is_offered("; ".join(photo.shows), known) for photo in PHOTOS.values())
        assert is_offered("; ".join(KINDS), known)
        assert not is_offered("cat; dog", known) and not is_offered("", known)
    assert is_offered("nail; screw", ("nail", "screw")) and not is_offered("nail; screw", MANY)


def test_every_photo_has_a_button():
    html = thumbnails_html()
    assert html.count("<button") == len(PHOTOS) and html.count("data:image/jpeg;base64,") == len(PHOTOS)
    assert all(f'data-photo="{name}"' in html and f'alt="{photo.title}"' in html for name, photo in PHOTOS.items())
    assert len(html) < 50_000


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "dog"])
def test_other_photos_are_refused(name):
    with pytest.raises(ValueError, match="choose one of chelsea, astronaut"):
        photo_picture(name)


@pytest.fixture(scope="module")
def handlers(tmp_path_factory):
    """Of a model that knows 1,300 names."""
    pytest.importorskip("gradio", reason="gradio is not installed (extra demo)")
    from clipseg_ws.backbones.openclip import OpenClipBackbone
    from clipseg_ws.web.engine import Engine
    from clipseg_ws.web.handlers import Handlers

    backbone = OpenClipBackbone(tiny_clip(), name="photo")
    backbone.known_classes = MANY
    engine = Engine("photo", others=(), load=lambda name, **options: backbone)
    return Handlers(engine, tmp_path_factory.mktemp("answers"))


def test_names_follow_the_picture_until_somebody_types(handlers):
    import gradio as gr

    picture, _, note, names = handlers.photo("astronaut", "cat")
    assert picture.image.size == (512, 512) and "astronaut.jpg" in note and names == "person; space shuttle"
    picture, _, note, names = handlers.draw(9_000_036, names)
    assert "drawn scene 9000036" in note and names == "; ".join(KINDS)
    assert handlers.photo("coffee", names)[3] == "cup; plate"
    assert handlers.photo("coffee", "my own words")[3] == gr.skip() == handlers.draw(7, "my own words")[3]
    assert handlers.open("photo")[0].note.startswith("a cat")


def test_what_cannot_be_shown_is_said(handlers):
    for updates in (handlers.photo("dog", "cat"), handlers.draw(-1, "cat")):
        assert len(updates) == 4 and "cs-error" in updates[2]
