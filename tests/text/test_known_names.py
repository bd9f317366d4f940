"""Names that a model does not know, and the nearest that it does."""

from __future__ import annotations

import pytest

from clipseg_ws.text.known_names import LOOKED_UP, about, describe_unknown, unknown_names
from clipseg_ws.text.vocabulary import parse_classes

WORDS = ("cat", "kitty", "person", "people", "Sea  Horse", "stethoscope", "berry", "wolf", "woman", "bus", "red fox",
         "car")  # fmt: skip


def unknown(classes):
    return unknown_names(parse_classes(classes), WORDS)


@pytest.mark.parametrize("classes", ["cat", "CAT", " Cat ", "SEA HORSE, zzz", "human, people", "xyz, kitty"])
def test_case_and_spaces_do_not_matter_and_one_synonym_is_enough(classes):
    assert unknown(classes) == {}


def test_a_display_name_counts_as_its_words():
    vocabulary = parse_classes([{"name": "thing", "words": ["cat"]}, {"name": "cat", "words": ["thingy"]}])
    assert unknown_names(vocabulary, WORDS) == {}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("stethoscopes", "stethoscope"), ("stetoscope", "stethoscope"), ("Stethoscopes", "stethoscope"),
        ("berries", "berry"), ("wolves", "wolf"), ("women", "woman"), ("buses", "bus"), ("sea-horse", "Sea  Horse"),
        ("sea_horses", "Sea  Horse"), ("seahorse", "Sea  Horse"), ("red car", "car"), ("red cars", "car"),
        ("red foxes", "red fox"), ("cat tree", "cat"), ("giraffe", None), ("ca", "cat"),
    ],
)  # fmt: skip
def test_the_nearest_known_word(name, nearest):
    assert unknown(name) == {name: nearest}


def test_the_nearest_of_all_synonyms_and_the_others_untouched():
    assert unknown("giraffe, berries; cat; okapi") == {"giraffe": "berry", "okapi": None}
    vocabulary = parse_classes("cat", background="giraffe, okapi")
    assert unknown_names(vocabulary, WORDS) == {}


def test_a_model_without_a_list_knows_every_name():
    assert unknown_names(parse_classes("giraffe"), ()) == {}


def test_only_the_first_of_many_are_compared():
    found = unknown("; ".join(f"cats{'x' * i}" for i in range(LOOKED_UP + 2)))
    assert len(found) == LOOKED_UP + 2 and list(found.values())[-2:] == [None, None] and found["cats"] == "cat"


def test_the_line_for_the_user():
    one = describe_unknown({"stethoscopes": "stethoscope"}, "photo", 1317)
    assert one == "photo knows about 1,300 things; 'stethoscopes' is not among them; nearest: stethoscope"
    none = describe_unknown({"giraffe": None}, "nano", 12)
    assert none == "nano knows 12 things; 'giraffe' is not among them; all of them: clipseg-ws list names --model nano"
    many = describe_unknown({f"a{i}": "a" if i else None for i in range(7)}, "photo", 1317)
    assert "not among them: 'a0', 'a1' (nearest: a)" in many and "and 2 more" in many and "\n" not in many


@pytest.mark.parametrize(("count", "text"), [(1, "1"), (99, "99"), (100, "about 100"), (1317, "about 1,300"),
                                             (1351, "about 1,400"), (12849, "about 13,000")])  # fmt: skip
def test_about(count, text):
    assert about(count) == text
