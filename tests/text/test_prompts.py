"""The files of prompts/: counts, official orders (spot checks), published words, template lists."""

from __future__ import annotations

import runpy
from importlib import resources, util
from pathlib import Path

import pytest
import yaml

from clipseg_ws.text.embeddings import texts
from clipseg_ws.text.lists import list_backgrounds, list_templates, list_vocabularies, load_background, load_templates
from clipseg_ws.text.vocabulary import load_vocabulary, parse_classes

COUNTS = {
    "voc": (20, 25, "string", 1),
    "voc-zero": (20, 26, "max", 80),
    "voc-names": (20, 0, "string", 1),
    "coco-object": (80, 23, "string", 1),
    "coco-object-zero": (80, 25, "max", 80),
    "coco-stuff": (171, 0, "max", 80),
    "context": (59, 1, "max", 80),
    "ade150": (150, 0, "max", 80),
    "cityscapes": (19, 0, "max", 80),
    "scenes100": (100, 0, "string", 1),
}

# (vocabulary, official 0-based index, official name)
INDICES = [
    ("voc", 0, "aeroplane"),
    ("voc", 7, "cat"),
    ("voc", 14, "person"),
    ("voc", 19, "tvmonitor"),
    ("coco-object", 0, "person"),
    ("coco-object", 15, "cat"),
    ("coco-object", 40, "wine glass"),
    ("coco-object", 60, "dining table"),
    ("coco-object", 79, "toothbrush"),
    ("coco-stuff", 79, "toothbrush"),
    ("context", 0, "aeroplane"),
    ("context", 36, "person"),
    ("context", 58, "wood"),
    ("ade150", 0, "wall"),
    ("ade150", 2, "sky"),
    ("ade150", 12, "person"),
    ("ade150", 20, "car"),
    ("ade150", 76, "boat"),
    ("ade150", 80, "bus"),
    ("ade150", 90, "airplane"),
    ("ade150", 127, "bicycle"),
    ("ade150", 149, "flag"),
    ("cityscapes", 0, "road"),
    ("cityscapes", 10, "sky"),
    ("cityscapes", 11, "person"),
    ("cityscapes", 18, "bicycle"),
]


def test_the_vocabularies_are_these():
    assert list_vocabularies() == sorted(COUNTS)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_counts_and_settings(name):
    got = load_vocabulary(name)
    classes, background, fusion, templates = COUNTS[name]
    assert len(got.names) == len(set(got.names)) == classes
    assert len(got.background or ()) == background and len(got.templates) == templates and got.fusion == fusion
    document = yaml.safe_load((resources.files("clipseg_ws.prompts") / f"{name}.yaml").read_text("utf-8"))
    assert len(document["classes"]) == classes and document["source"]  # none lost, origin told


@pytest.mark.parametrize(("name", "index", "official"), INDICES)
def test_official_indices(name, index, official):
    assert load_vocabulary(name).names[index] == official


@pytest.mark.parametrize(
    ("category", "official"),
    [
        (92, "banner"),
        (97, "bush"),
        (124, "grass"),
        (148, "river"),
        (149, "road"),
        (154, "sand"),
        (155, "sea"),
        (157, "sky-other"),
        (159, "snow"),
        (169, "tree"),
        (171, "wall-brick"),
        (178, "water-other"),
        (182, "wood"),
    ],
)
def test_coco_stuff_follows_the_category_ids(category, official):
    """Stuff has the ids 92 to 182 without a gap, things take the first 80 places."""
    assert load_vocabulary("coco-stuff").names[category - 92 + 80] == official


def test_orders_agree_between_the_files():
    assert load_vocabulary("voc").names == load_vocabulary("voc-zero").names == load_vocabulary("voc-names").names
    coco = load_vocabulary("coco-object").names
    assert coco == load_vocabulary("coco-object-zero").names == load_vocabulary("coco-stuff").names[:80]
    stuff = load_vocabulary("coco-stuff").names[80:]
    assert list(stuff) == sorted(stuff) and len(stuff) == 91  # COCO's stuff categories are in alphabetical order
    context = load_vocabulary("context").names
    assert list(context) == sorted(context)
    assert set(load_vocabulary("voc").names) - set(context) == {"diningtable"}  # Context calls it table


def test_clip_es_words_are_the_published_strings():
    words, owner = texts(load_vocabulary("voc"))
    assert owner == [*range(20), *[-1] * 25]
    plain = load_vocabulary("voc").names
    changed = {plain[i]: word for i, word in enumerate(words[:20]) if word != plain[i]}
    assert changed == {
        "bird": "bird avian",
        "chair": "chair seat",
        "person": "person with clothes,people,human",
        "tvmonitor": "tvmonitor screen",
    }
    coco = dict(zip(load_vocabulary("coco-object").names, texts(load_vocabulary("coco-object"))[0], strict=False))
    assert coco["person"] == "person with clothes,people,human" and coco["hair drier"] == "hairdrier,blowdrier"
    assert coco["tie"] == "necktie" and coco["couch"] == "sofa" and coco["umbrella"] == "umbrella,parasol"


def test_background_lists():
    assert list_backgrounds() == ["none", "voc-clip-es", "coco-clip-es", "stuff26", "literal"]
    voc, coco = load_background("voc-clip-es"), load_background("coco-clip-es")
    assert len(voc) == 25 and voc[0] == "ground" and voc[-1] == "sign"
    assert [word for word in voc if word not in ("keyboard", "sign")] == list(coco) and len(coco) == 23
    assert load_background("literal") == ("background",)


def test_stuff_words_are_those_of_the_protocol(shared):
    text = " ".join((shared / "protocols.md").read_text("utf-8").split())
    words = text.split("26 stuff words (")[1].split(")")[0].split()
    assert list(load_background("stuff26")) == words


def test_the_class_wins_over_the_background_word_bed():
    assert "bed" in load_background("stuff26")
    assert "bed" not in (load_vocabulary("coco-object-zero").background or ())
    assert "bed" in load_vocabulary("coco-object-zero").names


def test_context_has_the_literal_background_word_and_can_drop_it():
    assert load_vocabulary("context").background == ("background",)
    assert parse_classes("context", background="none").background == ()


def test_imagenet_templates_equal_open_clips_own():
    spec = util.find_spec("open_clip")  # found, not imported
    assert spec is not None and spec.submodule_search_locations
    oracle = runpy.run_path(str(Path(spec.submodule_search_locations[0]) / "zero_shot_metadata.py"))
    assert load_templates("imagenet80") == tuple(make("{}") for make in oracle["OPENAI_IMAGENET_TEMPLATES"])
    assert load_templates("imagenet7") == tuple(make("{}") for make in oracle["SIMPLE_IMAGENET_TEMPLATES"])


def test_template_lists():
    assert list_templates() == ["clip-es", "plain", "clip-es-candidates", "imagenet7", "imagenet80"]
    assert load_templates("clip-es") == ("a clean origami {}.",)
    for name in list_templates():
        templates = load_templates(name)
        assert len(set(templates)) == len(templates) and all(template.count("{}") == 1 for template in templates)
    assert set(load_templates("imagenet7")) <= set(load_templates("imagenet80"))
    assert len(load_templates("imagenet80")) == 80
    assert load_templates("clip-es")[0] in load_templates("clip-es-candidates")
