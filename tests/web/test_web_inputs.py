"""What visitors hand in: pictures, names, controls; and the model behind the page."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from conftest import tiny_clip
from engine_web import nano_engine
from PIL import Image

from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.pictures.reading import ImageError
from clipseg_ws.refine import REFINERS
from clipseg_ws.structures import Support
from clipseg_ws.web.controls import (
    AS_METHOD,
    Controls,
    drawn_picture,
    drawn_support,
    make_ask,
    make_support,
    slider_values,
)
from clipseg_ws.web.engine import Engine, methods, refiners, region_sources
from clipseg_ws.web.names import comma_hint, parse_names
from clipseg_ws.web.pictures import WORK_SIDE, load_picture

GPS = 34853


@pytest.fixture(scope="module")
def engine():
    return nano_engine()


@pytest.fixture(scope="module")
def controls(engine):
    own = engine.segmenter().variant("default").config
    return Controls("house; car", "[]", False, "default", AS_METHOD, own.presence_threshold, own.alpha,
                    own.background_threshold, own.fewshot.presence_threshold, True)  # fmt: skip


def huge_png(path, side=30_000):
    """A PNG whose header promises side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))
    return path


def test_pictures_lose_their_metadata_and_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif.get_ifd(GPS)[1] = "N"
    Image.new("RGB", (60, 40), "red").save(tmp_path / "a.jpg", exif=exif, comment=b"home")
    picture = load_picture(tmp_path / "a.jpg")
    assert picture.image.size == (40, 60) and picture.image.info == {} and not picture.image.getexif()
    assert picture.note == "a.jpg, 40 × 60 pixels"


def test_large_pictures_are_shrunk_and_it_is_said(tmp_path):
    Image.new("L", (3000, 30)).save(tmp_path / "wide.png")
    picture = load_picture(tmp_path / "wide.png")
    assert picture.image.size == (WORK_SIDE, 13) and picture.image.mode == "RGB" and picture.original == (3000, 30)
    assert "3000 × 30" in picture.note and "1280 × 13" in picture.note


def test_unusable_pictures_are_named_without_their_folder(tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    for path, reason in ((tmp_path / "text.png", "not an image"), (huge_png(tmp_path / "huge.png"), "30000 x 30000")):
        with pytest.raises(ImageError, match=reason) as refused:
            load_picture(path)
        assert path.name in str(refused.value) and str(tmp_path) not in str(refused.value)
        assert "64 million pixels and 30 MB" in str(refused.value)


def test_names():
    text, vocabulary = parse_names(" house ;\n person, people\n")
    assert text == "house ;;  person, people" and vocabulary.names == ("house", "person")
    assert parse_names("VOC")[0] == "voc" and len(parse_names("voc")[1].names) == 20
    for nothing in ("", None, " ; , ", "\n"):
        assert parse_names(nothing) == (None, None)


@pytest.mark.parametrize(
    "text", ["/etc/passwd", "~/.bashrc", "../x.yaml", "classes.txt", "cat; /etc/hosts", "a.yml; b", "./x"]
)
def test_names_are_never_read_from_files(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "classes.txt").write_text("secret")
    with pytest.raises(ValueError, match="looks like a file"):
        parse_names(text)


def test_too_many_names_and_the_hint_about_commas():
    with pytest.raises(ValueError, match="301 classes"):
        parse_names("; ".join(f"thing {i}" for i in range(301)))
    with pytest.raises(ValueError, match="characters"):
        parse_names("x" * 9000)
    assert "synonyms" in comma_hint("house, car") and not comma_hint("house; car, auto") and not comma_hint("")


def test_an_ask_holds_only_what_differs_from_the_method(engine, controls):
    picture, _ = drawn_picture(9_000_075)
    segmenter = engine.segmenter()
    assert make_ask(segmenter, picture, (), controls).settings == {}
    changed = replace(controls, refine="pamr", presence_threshold=0.4, background_threshold=0.9)
    assert make_ask(segmenter, picture, (), changed).settings == {"refine": "pamr", "presence_threshold": 0.4}
    words = replace(changed, method="sclip")  # looks at no presence, but at the least probability
    assert make_ask(segmenter, picture, (), words).settings == {"refine": "pamr", "background_threshold": 0.9}
    assert {key: used for key, (_, used) in slider_values(segmenter.variant("sclip")).items()} == {
        "presence_threshold": False, "alpha": False, "background_threshold": True, "example_threshold": False
    }  # fmt: skip
    assert slider_values(segmenter.variant("default"))["background_threshold"][1] is False


@pytest.mark.parametrize("method", methods())
def test_every_method_reads_what_its_sliders_set(engine, controls, method):
    picture, _ = drawn_picture(9_000_075)
    moved = replace(controls, method=method, refine="none", presence_threshold=0.11, alpha=1.3,
                    background_threshold=0.77, example_threshold=0.22)  # fmt: skip
    settings = make_ask(engine.segmenter(), picture, (), moved).settings
    assert engine.segmenter().variant(method, **settings).ask("house; car").vocabulary.names == ("house", "car")
    shown = {key for key, (_, used) in slider_values(engine.segmenter().variant(method)).items() if used}
    assert {*settings} - {"refine"} == shown - {"example_threshold"}


def test_what_is_missing_is_said(engine, controls):
    picture, _ = drawn_picture(9_000_075)
    with pytest.raises(ValueError, match="no picture yet"):
        make_ask(engine.segmenter(), None, (), controls)
    with pytest.raises(ValueError, match="no class names"):
        make_ask(engine.segmenter(), picture, (), replace(controls, names=" ; "))
    many = replace(controls, names="; ".join(f"thing {i}" for i in range(300)), method="sclip")
    large = replace(picture, image=Image.new("RGB", (1280, 1280)))
    with pytest.raises(ValueError, match="too much for this page"):
        make_ask(engine.segmenter(), large, (), many)
    assert make_ask(engine.segmenter(), large, (), replace(many, method="default")).stages is False
    with pytest.raises(ValueError, match="whole one"):
        drawn_picture(-1)


def test_examples_join_the_names(engine, controls):
    picture, _ = drawn_picture(9_000_075)
    examples = tuple(
        Support(picture.image, np.ones((384, 512), np.uint8), name) for name in ("kite", "kite", "Cottage")
    )
    drawn = '[{"kind": "point", "name": "kite", "points": [[3, 3]]}]'

    def ask(**changes):
        return make_ask(engine.segmenter(), picture, examples, replace(controls, drawing=drawn, **changes))

    assert ask(names="").classes is None and ask(names="").shapes[0].name == "kite"
    assert ask(names="house, cottage; car").classes == "house, cottage; car; kite"
    with pytest.raises(ValueError, match="'kite' is not in the list 'voc'"):
        ask(names="voc")
    assert ask(example_threshold=0.7).settings == {"fewshot": {"presence_threshold": 0.7}}
    without = make_ask(engine.segmenter(), picture, (), replace(controls, example_threshold=0.7))
    assert without.settings == {} and without.classes == "house; car"


def test_examples():
    picture, mask = drawn_support(" Mushroom", 0)
    other, _ = drawn_support("mushroom", 1)
    assert mask.shape == (384, 512) and 0.005 < mask.mean() < 0.9
    assert not np.array_equal(np.asarray(picture.image), np.asarray(other.image))
    support = make_support(picture, "[]", mask, " mushroom ")
    assert support.label == "mushroom" and support.mask is mask
    painted = '[{"kind": "outline", "points": [[0, 0], [50, 0], [50, 50]]}]'
    assert 1000 < make_support(picture, painted, None, "x").mask.sum() < 1500
    for label, message in (("dragon", "cannot be drawn"), ("", "cannot be drawn")):
        with pytest.raises(ValueError, match=message):
            drawn_support(label, 0)
    for given, message in (((None, "[]", mask, "x"), "no example picture"), ((picture, "[]", mask, " "), "plain name"),
                           ((picture, "[]", mask, "a; b"), "plain name"), ((picture, "[]", mask, "--x"), "plain name"),
                           ((picture, "[]", None, "x"), "nothing is painted")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            make_support(*given)


def test_one_model_at_a_time(tiny_backbone):
    asked = []

    def load(name, **options):
        asked.append((name, options))
        if name == "broken":
            raise OSError("no weights")
        return tiny_backbone

    engine = Engine("a", others=("b", "broken"), offline=True, load=load)
    assert engine.models == ("a", "photo", "nano", "b", "broken")
    assert engine.segmenter() is engine.segmenter("a") and len(asked) == 1
    assert engine.segmenter("b").backbone.name == tiny_backbone.name and engine.model == "b" and len(asked) == 2
    with pytest.raises(OSError, match="no weights"):
        engine.segmenter("broken")
    assert engine.model == "b" and engine.segmenter() is not None and [n for n, _ in asked] == ["a", "b", "broken", "b"]
    with pytest.raises(ValueError, match="not offered here"):
        engine.segmenter("local-dir:/etc")
    assert all(options["offline"] for _, options in asked)


def test_the_page_says_what_the_model_knows(engine, tiny_backbone):
    text = engine.describe()
    assert "photos are out of its world" in text and all(kind in text for kind in KINDS)
    other = Engine("x/y", others=(), load=lambda name, **options: tiny_backbone).describe()
    assert "`x/y`" in other and "no list of classes" in other and "photos are out" not in other


def test_of_many_known_names_the_first_are_told():
    from clipseg_ws.backbones.openclip import OpenClipBackbone

    backbone = OpenClipBackbone(tiny_clip(), name="photo")
    backbone.known_classes = tuple(f"thing {i}" for i in range(1200))
    text = Engine("photo", others=(), load=lambda name, **options: backbone).describe()
    assert "**Model `photo`**" in text and "1,200 names, among them thing 0, thing 1," in text
    assert "thing 19 (all: `clipseg-ws list names --model photo`)" in text and "thing 20" not in text
    backbone.known_classes = backbone.known_classes[:3]
    text = Engine("x/y", others=(), load=lambda name, **options: backbone).describe()
    assert "By its own account it knows thing 0, thing 1, thing 2." in text


def test_only_what_works_is_offered(monkeypatch):
    assert {"default", "cam", "clip-es", "sclip"} <= set(methods()) and "proxyclip" not in methods()
    monkeypatch.setattr("clipseg_ws.registry.find_spec", lambda module: None)
    monkeypatch.setattr("clipseg_ws.web.engine.cached_sams", lambda: ("some/sam",))
    plain = [name for name, entry in REFINERS.items() if entry.needs is None and not entry.about.get("network")]
    assert refiners() == [*plain, "sam:some/sam"]
    assert region_sources() == ["none", "grow", "sam:some/sam"]


def test_regions_of_the_page_are_cut_and_their_borders_drawn_on_demand(engine, controls):
    from clipseg_ws.web.ask import answer
    from clipseg_ws.web.render import overlay_view

    picture, _ = drawn_picture(9_000_001)
    ask = make_ask(engine.segmenter(), picture, (), replace(controls, regions="grow"))
    assert ask.settings["regions"] == "grow"
    result = answer(engine.segmenter(), ask).result
    plain, lined = (np.array(overlay_view(result, 0.5, borders)) for borders in (False, True))
    partition = result.extras["regions"].regions.partition()
    height, width = partition.shape
    changed = (plain != lined).any(-1)
    edge = np.zeros(partition.shape, bool)
    edge[:, 1:] |= partition[:, 1:] != partition[:, :-1]
    edge[1:] |= partition[1:] != partition[:-1]
    assert changed[:height, :width].any() and not changed[:height, :width][~edge].any() and not changed[height:].any()
    assert (lined[:height, :width][edge] == 255).all()


def test_settings_do_not_run_the_backbone_again(engine, controls):
    from clipseg_ws.web.ask import answer

    picture, _ = drawn_picture(9_000_001)
    before = engine.segmenter().encoder_runs
    for change in ({}, {"presence_threshold": 0.5}, {"alpha": 1.0}, {"refine": "none"}, {"method": "default"}):
        answer(engine.segmenter(), make_ask(engine.segmenter(), picture, (), replace(controls, **change)))
    assert engine.segmenter().encoder_runs == before + 1
    for least in (0.1, 0.6):
        changed = replace(controls, method="naclip", background_threshold=least)
        answer(engine.segmenter(), make_ask(engine.segmenter(), picture, (), changed))
    assert engine.segmenter().encoder_runs == before + 2
