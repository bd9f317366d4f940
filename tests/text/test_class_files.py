"""parse_classes on YAML and text files: what is read, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipseg_ws.door.plain import TextWarning
from clipseg_ws.text.lists import load_templates
from clipseg_ws.text.vocabulary import parse_classes


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


YAML = """
source: somewhere
classes:
  - cat
  - person, people
  - {name: tv, words: [tvmonitor screen, television]}
background: [sky, cat]
templates: imagenet7
fusion: max
"""


def test_yaml_file(tmp_path):
    path = write(tmp_path / "my classes.yaml", YAML)
    got = parse_classes(path)
    assert got.names == ("cat", "person", "tv")
    assert got.synonyms == (("cat",), ("person", "people"), ("tvmonitor screen", "television"))
    assert got.background == ("sky",) and got.templates == load_templates("imagenet7") and got.fusion == "max"
    assert parse_classes(str(path)) == got
    assert parse_classes(path, fusion="string", background="none").background == ()


def test_yaml_with_a_class_string_and_defaults(tmp_path):
    got = parse_classes(write(tmp_path / "a.yml", 'classes: "cat; dog, hound"\n'))
    assert got == parse_classes("cat; dog, hound")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no mapping at the top"),
        ("- cat\n- dog\n", "no mapping at the top"),
        ("class: [cat]\n", "unknown key class; a class file has classes"),
        ("classes: [cat]\nsynonyms: [a]\n", "unknown key synonyms"),
        ("background: [sky]\n", "no key 'classes'"),
        ("classes: {cat: kitten}\n", "classes is dict"),
        ("classes:\n", "classes is NoneType"),
        ("classes: [yes, cat]\n", "class 1: got True .*quote it"),
        ("classes: [cat, 7]\n", "class 2: got 7"),
        ("classes: [{name: cat, words: }]\n", "class 1: got None"),
        ("classes: [cat]\nbackground: 5\n", "background: got 5"),
        ("classes: [cat]\ntemplates: 5\n", "templates: got 5"),
        ("classes: [cat]\nfusion: [max]\n", "fusion .'max'. is unknown"),
        ("classes: [cat\n", "not a readable class file"),
        ("classes: !!python/object/apply:os.getcwd []\n", "not a readable class file"),
    ],
)
def test_yaml_errors(tmp_path, text, message):
    path = write(tmp_path / "a.yaml", text)
    with pytest.raises(ValueError, match=message):
        parse_classes(path)


def test_text_file(tmp_path):
    text = "\ufeff# comment; with a semicolon\ncat\r\n\n  person, people ,\nbackground, wall\n#tail"
    got = parse_classes(str(write(tmp_path / "names.txt", text)))
    assert got == parse_classes("cat; person, people; background, wall")
    assert parse_classes(write(tmp_path / "names", text)) == got


def test_text_file_errors(tmp_path):
    with pytest.raises(ValueError, match="line 2: ';'"):
        parse_classes(write(tmp_path / "a.txt", "cat\nperson; people\n"))
    with pytest.raises(ValueError, match="not a readable class file"):
        parse_classes(write(tmp_path / "b.txt", "\u043a\u043e\u0448\u043a\u0430", "cp1251"))
    with pytest.warns(TextWarning, match=r"d\.txt' is read as Windows text"):
        assert parse_classes(write(tmp_path / "d.txt", "k\u00e4tzchen", "cp1252")).names == ("k\u00e4tzchen",)
    with pytest.raises(ValueError, match="no class to look for"):
        parse_classes(write(tmp_path / "c.txt", "# nothing\n"))


@pytest.mark.parametrize("name", ["nowhere.yaml", "nowhere.TXT", "./nowhere", "/no/where", "~/no/where", "no.yml "])
def test_a_file_that_does_not_exist(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        parse_classes(name)


def test_relative_path_without_suffix_and_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "names", "cat\ndog\n")
    assert parse_classes("./names").names == ("cat", "dog")
    assert parse_classes("names").names == ("names",)
    with pytest.raises(FileNotFoundError):
        parse_classes(tmp_path)
