"""parse_classes: every form of class names, what is ignored, and what is refused with which words."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.class_files import write_classes
from clipseg_ws.text.lists import list_vocabularies, load_background, load_templates
from clipseg_ws.text.vocabulary import load_vocabulary, parse_classes

# ---- strings ---------------------------------------------------------------------------------------------------------


def test_string_with_synonyms():
    got = parse_classes("cat; person, people, human")
    assert got == Vocabulary(names=("cat", "person"), synonyms=(("cat",), ("person", "people", "human")))
    assert got.background is None and got.templates == ("a clean origami {}.",) and got.fusion == "string"


@pytest.mark.parametrize(
    "text",
    ["cat;dog", " cat ;\tdog ", ";cat;;dog;", "cat,;,dog,,", "cat\ndog\n", "cat;\r\n\r\n dog", "; , ;cat; ,dog, cat2"],
)
def test_stray_separators_and_white_space_are_ignored(text):
    assert parse_classes(text.replace(", cat2", "")).names == ("cat", "dog")


def test_white_space_inside_is_collapsed_and_case_kept():
    assert parse_classes("hot   dog,\u00a0Wiener\tsausage ; TV").synonyms == (("hot dog", "Wiener sausage"), ("TV",))


def test_repeated_synonym_counts_once():
    assert parse_classes("cat, Cat, cat ,kitten").synonyms == (("cat", "kitten"),)


@pytest.mark.parametrize("spec", ["", "   ", ";;", ", ;\n,", [], "background", "Background; background, wall"])
def test_no_class_is_an_error(spec):
    with pytest.raises(ValueError, match=r"no class to look for.*for example"):
        parse_classes(spec)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [("cat; dog; cat", "name 'cat'"), ("Cat; cAT", "name 'cAT'"), ("cat, kitten; dog, Kitten", "word 'Kitten'")],
)
def test_two_classes_must_not_share_a_name_or_word(spec, kind):
    with pytest.raises(ValueError, match=f"the {kind} stands for two classes"):
        parse_classes(spec)


def test_a_class_string_is_not_a_prompts_name_nor_a_file():
    assert parse_classes("cat").names == ("cat",)
    assert parse_classes("tv/monitor").names == ("tv/monitor",)
    assert parse_classes(["voc"]).names == ("voc",)
    assert parse_classes("voc; cat").names == ("voc", "cat")
    assert parse_classes("t-shirt").names == ("t-shirt",)


def test_every_class_of_the_prompts_is_accepted_alone():
    words = {word for name in list_vocabularies() for synonyms in load_vocabulary(name).synonyms for word in synonyms}
    assert len(words) > 300
    for word in words:
        assert parse_classes(word).names == (word,)


# ---- names of prompts/ -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["voc", " VOC ", "Voc"])
def test_prompts_name(name):
    assert parse_classes(name) == load_vocabulary("voc")
    assert len(parse_classes(name).names) == 20


def test_underscores_are_forgiven():
    assert parse_classes("COCO_Stuff") == load_vocabulary("coco-stuff")


@pytest.mark.parametrize("name", ["voc21", "ade20k", "coco-stuf", "coco_objects", "context60", "cityscapes19", "coco"])
def test_near_miss_of_a_prompts_name_lists_the_choices(name):
    listed = r"choices are ade150, .*voc-zero; (did you mean .*\? )?for a class of that name"
    with pytest.raises(ValueError, match=listed):
        parse_classes(name)
    assert parse_classes([name]).names == (name,)


def test_load_vocabulary_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match=r"unknown vocabulary 'imagenet'; choices are ade150, .*, voc"):
        load_vocabulary("imagenet")


# ---- lists and vocabularies ------------------------------------------------------------------------------------------


def test_list_forms_agree_with_the_string():
    expected = parse_classes("cat; person, people")
    assert parse_classes(["cat", "person, people"]) == expected
    assert parse_classes(("cat", ("person", "people"))) == expected
    assert parse_classes([["cat"], {"name": "person", "words": ["person", "people"]}]) == expected
    assert parse_classes(expected) == expected


def test_display_name_of_its_own():
    got = parse_classes([{"name": "tv", "words": "tvmonitor screen, television"}, {"name": "cat"}])
    assert got.names == ("tv", "cat")
    assert got.synonyms == (("tvmonitor screen", "television"), ("cat",))


@pytest.mark.parametrize(
    "entry", ["cat; dog", ["a,b"], "cat\ndog", "", " , ", [], [""], None, 3, ["cat", False], ["cat", ["dog"]]]
)
def test_bad_list_entries_say_which(entry):
    with pytest.raises(ValueError, match="classes, class 2"):
        parse_classes(["sheep", entry])


@pytest.mark.parametrize("entry", [{}, {"words": ["cat"]}, {"name": "cat", "synonyms": ["kitten"]}])
def test_bad_mapping_keys(entry):
    with pytest.raises(ValueError, match=r"class 2: got keys .*a class is \{name"):
        parse_classes(["dog", entry])


@pytest.mark.parametrize("spec", [None, 5, b"cat", {"cat", "dog"}, {"cat": ["kitten"]}, iter(["cat"])])
def test_other_types_are_refused(spec):
    with pytest.raises(TypeError, match="give a string, a list, a path or a Vocabulary"):
        parse_classes(spec)


def test_inconsistent_vocabulary_is_refused():
    with pytest.raises(ValueError, match="2 names but synonyms for 1"):
        parse_classes(Vocabulary(names=("a", "b"), synonyms=(("a",),)))


def test_the_spec_is_not_changed():
    spec = ["cat", {"name": "background", "words": ["wall"]}, {"name": "tv", "words": ["screen"]}]
    parse_classes(spec, background=["sky"])
    assert spec == ["cat", {"name": "background", "words": ["wall"]}, {"name": "tv", "words": ["screen"]}]


# ---- background, templates, fusion -----------------------------------------------------------------------------------


def test_class_called_background_becomes_background_words():
    got = parse_classes("Background, wall, sky; cat; dog")
    assert got.names == ("cat", "dog") and got.background == ("Background", "wall", "sky")
    assert parse_classes([{"name": "background", "words": ["wall"]}, "cat"]).background == ("wall",)
    assert parse_classes("background, wall; cat", background=["grass"]).background == ("grass",)
    assert parse_classes("background, wall; cat", background=()).background == ()


def test_not_said_is_not_none_at_all(tmp_path):
    assert parse_classes("cat; dog").background is None
    said = [parse_classes("cat; dog", background=words) for words in ("none", (), [], "")]
    assert all(vocabulary.background == () for vocabulary in said)
    for vocabulary in (parse_classes("cat; dog"), *said):
        again = parse_classes(vocabulary)
        assert again == vocabulary  # and stays so
        write_classes(vocabulary, tmp_path / "c.yaml")
        assert parse_classes(tmp_path / "c.yaml") == vocabulary
    assert parse_classes(parse_classes("cat", background=["sky"]), background="none").background == ()
    assert parse_classes(parse_classes("cat", background="none"), background=["sky"]).background == ("sky",)
    assert parse_classes("grass", background=["grass"]).background == ()  # said, and then a class


def test_background_words_that_are_class_words_are_dropped():
    got = parse_classes("Grass, lawn; cat", background="voc-clip-es")
    assert "grass" not in got.background and len(got.background) == 24
    named = parse_classes([{"name": "wall", "words": ["brick wall"]}], background=["Wall", "sky", "brick  wall"])
    assert named.background == ("sky",)


def test_load_background_forms():
    assert len(load_background("stuff26")) == 26
    assert load_background("sky,  dark grass, ,sky,") == ("sky", "dark grass")
    assert load_background(["sky"]) == load_background("sky,") == ("sky",)
    assert load_background("") == load_background(()) == load_background("none") == ()
    with pytest.raises(ValueError, match=r"unknown list 'stuff27'; choices are none, voc-clip-es"):
        load_background("stuff27")
    with pytest.raises(ValueError, match="background: got 5"):
        load_background([5])
    with pytest.raises(ValueError, match="background: got 5"):
        load_background(5)


def test_load_templates_forms():
    assert load_templates("plain") == load_templates("a photo of a {}.") == ("a photo of a {}.",)
    assert load_templates(["{} one", "two {}"]) == ("{} one", "two {}")
    with pytest.raises(ValueError, match=r"unknown list 'imagenet'; choices are clip-es, plain"):
        load_templates("imagenet")
    for bad in ["{} and {}", "{name}", ["a photo"], [3], ["{} ok", "{0}"]]:
        with pytest.raises(ValueError, match=r"exactly one \{\}"):
            load_templates(bad)
    for empty in ([], (), None):
        with pytest.raises(ValueError, match="give at least one"):
            load_templates(empty)


def test_overrides_replace_what_the_spec_says():
    voc = load_vocabulary("voc")
    got = parse_classes("voc", background="none", templates="imagenet7", fusion="max")
    assert (got.names, got.synonyms) == (voc.names, voc.synonyms)
    assert got.background == () and len(got.templates) == 7 and got.fusion == "max"
    assert parse_classes(voc, background="stuff26").background == load_background("stuff26")
    with pytest.raises(ValueError, match="fusion 'mean' is unknown; choices are string, max"):
        parse_classes("cat", fusion="mean")
    with pytest.raises(ValueError, match="fusion ''"):
        parse_classes("cat", fusion="")


# ---- properties ------------------------------------------------------------------------------------------------------

word = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
separators = st.text(" \t,\u00a0", max_size=4)


def cleaned(text: str) -> str:
    """A word as the parser should keep it, or '' where the text is none (independent of the implementation)."""
    import unicodedata

    text = unicodedata.normalize("NFC", text)
    return "" if set(text) & set(",;\r\n") else " ".join(text.split())


@given(st.lists(st.lists(word.map(cleaned).filter(bool), min_size=1, max_size=3), min_size=1, max_size=5), st.data())
def test_round_trip_through_a_messy_string(classes, data):
    flat = [text.casefold() for words in classes for text in words]
    assume(len(set(flat)) == len(flat) and "background" not in flat)
    parts = []
    for words in classes:
        gaps = [data.draw(separators) for _ in range(len(words) + 1)]
        parts.append(gaps[0] + "".join(f"{text},{gap}" for text, gap in zip(words, gaps[1:], strict=True)))
    before, after = data.draw(st.sampled_from(["", ";", ", ;"])), data.draw(st.sampled_from(["", ";;", "\n"]))
    string = before + ";".join(parts) + after
    expected = tuple(tuple(words) for words in classes)
    got = parse_classes(string + ";")  # the last ';' keeps it from being a prompts name or a path
    assert got.synonyms == expected and got.names == tuple(words[0] for words in expected)
    assert parse_classes([list(words) for words in classes]) == got
    assert parse_classes(got) == got


@given(st.lists(word, max_size=4))
def test_any_list_of_text_is_parsed_or_refused_with_a_value_error(items):
    try:
        got = parse_classes(items)
    except ValueError:
        return
    assert len(got.names) == len(got.synonyms) > 0
    for text in (text for words in got.synonyms for text in words):
        assert text == cleaned(text) != ""
    assert len({name.casefold() for name in got.names}) == len(got.names)


@given(st.text(st.sampled_from("ab,; \n\t\u037e\u212bé"), max_size=20))
def test_any_string_is_parsed_or_refused_with_a_value_error(text):
    try:
        got = parse_classes(text)
    except ValueError:
        return
    assert parse_classes(";".join(",".join(words) for words in got.synonyms) + ";") == got


def test_unicode_is_composed_before_splitting():
    assert parse_classes("Ka\u0308tzchen; \u732b").names == ("K\u00e4tzchen", "\u732b")
    assert parse_classes("cat\u037e dog").names == ("cat", "dog")  # the Greek question mark is canonically a ';'


def test_parsing_does_not_import_torch():
    code = "import sys; from clipseg_ws.text.vocabulary import parse_classes as p; p('voc'); "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
