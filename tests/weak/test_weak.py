"""Tag files of every kind, their look-up, and the CSV reader against a writer (hypothesis)."""

from __future__ import annotations

import csv
import json
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clipseg_ws.pictures.sources import IMAGE_SUFFIXES, Source, list_sources
from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.lists import nfc
from clipseg_ws.weak.names import GROUND, IGNORED, NOTHING, is_number
from clipseg_ws.weak.readers.table import IMAGE_COLUMNS, TAG_COLUMNS
from clipseg_ws.weak.tags import Tags, lookup_tags, read_tags, tags_from_folders


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    return path


WANT = {"a": ("cat", "dog"), "sub/b": ("cat",), "c": ()}


@pytest.mark.parametrize(
    "name, text",
    [
        ("t.csv", "image,tags\na.jpg,cat;dog\nsub/b.png,cat\nc.jpg,\n"),
        ("t.csv", "\ufeffid, Labels ,FileName\n1,cat | dog | cat,./a.jpg\n\n2,cat,sub\\b.png\n3,,c.jpg\n"),
        ("t.csv", "filename,class\na.jpg,cat\nsub/b.png,cat\na.jpg,dog\nc.jpg,\n"),  # one row a tag
        ("t.csv", "a.jpg,cat,dog\nsub/b.png,cat\nc.jpg\n"),  # no header
        ("t.csv", '"a.jpg","cat;dog"\r\nsub/b.png,cat\r\nc.jpg,\r\n'),
        ("t.tsv", "file\ttags\na.jpg\tcat;dog\nsub/b.png\tcat\nc.jpg\t\n"),
        ("t.json", '{"a.jpg": ["cat", "dog"], "sub/b": "cat", "c": []}'),
        ("t.json", '[{"image": "a.jpg", "tags": "cat;dog"}, {"file": "sub/b.png", "labels": ["cat"]}, '
                   '{"image": "c", "tags": []}]'),
    ],
)  # fmt: skip
def test_tables(tmp_path, name, text):
    assert read_tags(write(tmp_path / name, text)) == WANT


def test_coco_json(tmp_path):
    content = {
        "images": [
            {"id": 7, "file_name": "a.jpg"},
            {"id": 9, "file_name": "sub/b.png"},
            {"id": 2, "file_name": "c.jpg"},
        ],
        "annotations": [{"image_id": i, "category_id": c} for i, c in ((7, 18), (9, 17), (7, 17), (7, 18))],
        "categories": [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}],
    }
    assert read_tags(write(tmp_path / "coco.json", json.dumps(content))) == WANT
    content["annotations"].append({"image_id": 2, "category_id": 3})
    with pytest.warns(UserWarning, match="coco.json, annotation number 5: category_id 3"):
        tags = read_tags(write(tmp_path / "coco.json", json.dumps(content)))
    assert tags == {"a": WANT["a"], "sub/b": WANT["sub/b"]}  # nothing is known of c: it does not hold nothing
    with pytest.raises(ValueError, match=r"coco\.json.*c\.jpg.*category_id 3"):
        lookup_tags(tags, "c.jpg")


def voc(*names: str) -> str:
    objects = "".join(f"<object><name> {n} </name><part><name>head</name></part></object>" for n in names)
    return f"<annotation><filename>other.jpg</filename>{objects}</annotation>"


def test_voc_xml_file_and_folder(tmp_path):
    write(tmp_path / "a.xml", voc("cat", "dog", "cat"))
    write(tmp_path / "sub/b.xml", voc("cat"))
    write(tmp_path / "c.xml", voc())
    assert read_tags(tmp_path) == WANT
    assert read_tags(tmp_path / "sub/b.xml") == {"b": ("cat",)}
    write(tmp_path / "d.xml", "<annotation><object>")
    with pytest.raises(ValueError, match=r"d\.xml.*not XML"):
        read_tags(tmp_path / "d.xml")
    with pytest.warns(UserWarning, match=r"d\.xml.*not XML"):
        assert read_tags(tmp_path) == WANT  # the rest goes on


def test_folder_names(tmp_path):
    for name in ("cat/1.jpg", "x/dog;cat/2.jpg", "3.jpg"):
        write(tmp_path / name, "")
    sources = list_sources(tmp_path)
    tags = tags_from_folders(sources, names=["Cat", "Dog"])
    assert tags == {"cat/1": ("Cat",), "x/dog;cat/2": ("Dog", "Cat")}
    assert [lookup_tags(tags, source) for source in sources] == [None, ("Cat",), ("Dog", "Cat")]
    with pytest.raises(ValueError, match=r"'dog' is not one of the classes; allowed: cat"):
        tags_from_folders(sources, names=["cat"])


def test_names_and_synonyms_decide_the_spelling(tmp_path):
    path = write(tmp_path / "t.csv", "image,tags\na.jpg,PEOPLE;person;Cat\n")
    with pytest.raises(ValueError, match=r"t\.csv.*'a\.jpg'.*'PEOPLE'.*allowed: person, cat"):
        read_tags(path, names=["person", "cat"])
    vocabulary = Vocabulary(("person", "cat"), (("person", "people"), ("cat",)))
    assert read_tags(path, names=vocabulary) == {"a": ("person", "cat")}
    assert read_tags(path) == {"a": ("PEOPLE", "person", "Cat")}


@pytest.mark.parametrize(
    "name, text, match",
    [
        ("t.csv", "", "empty"),
        ("t.csv", "photo,tags\na.jpg,cat\n", "needs one of image, file"),
        ("t.csv", "image,cat,dog\na.jpg,1,0\n", "one of tags, tag, labels"),
        ("t.csv", "image,tags\na.jpg,cat,dog\n", "line 2: 3 cells"),
        ("t.csv", "image.tags\na.jpg.cat\n", "one column only"),
        ("t.csv", 'image,tags\na.jpg,"cat\n', "not a UTF-8 CSV"),
        ("t.csv", "image,tags\n ,cat\n", "lacks its picture's name"),
        ("t.json", "{", "not JSON"),
        ("t.json", '{"a.jpg": 3}', "none of the known forms"),
        ("t.json", '[{"image": "a.jpg"}]', "none of the known forms"),
        ("t.json", "[7]", "none of the known forms"),
        ("t.json", '[{"image": 3, "tags": ["cat"]}]', "lacks its picture's name"),
        ("t.yaml", "a: cat", "suffix"),
    ],
)
def test_wrong_files(tmp_path, name, text, match):
    with pytest.raises(ValueError, match=match):
        read_tags(write(tmp_path / name, text))


def test_not_there_not_utf8_and_a_folder_without_xml(tmp_path):
    with pytest.raises(FileNotFoundError, match="allowed: CSV"):
        read_tags(tmp_path / "no.csv")
    with pytest.raises(ValueError, match="UTF-8"):
        read_tags(write(tmp_path / "t.csv", "image,tags\nкот.jpg,cat\n", "koi8-r"))
    with pytest.raises(ValueError, match="tags_from_folders"):
        read_tags(tmp_path)


def source(location: str, relative: str) -> Source:
    return Source(location, PurePosixPath(relative))


def test_pictures_that_differ_in_the_suffix_only(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg"):
        write(tmp_path / name, "")
    tags = read_tags(write(tmp_path / "t.csv", "image,tags\na.jpg,cat\na.png,dog\nb.jpg,cow\n"))
    assert tags == {"a.jpg": ("cat",), "a.png": ("dog",), "b": ("cow",)}
    assert [lookup_tags(tags, s) for s in list_sources(tmp_path)] == [("cat",), ("dog",), ("cow",)]


def test_lookup_order():
    tags = Tags({"x/a": ("cat",), "y/a": ("dog",), "y/b": ("cow",), "y/v1.5": (), "q/s": ("cat",), "r/s": ("cat",)})
    assert lookup_tags(tags, source("/data/y/a.jpg", "a")) == ("dog",)  # end of the path
    assert lookup_tags(tags, source("/data/y/a.jpg", "x/a")) == ("cat",)  # name below the listed folder first
    assert lookup_tags(tags, source("/elsewhere/b.png", "b")) is None  # another folder, another picture
    assert lookup_tags(tags, source("/elsewhere/y/v1.5.png", "v1.5")) == ()
    assert lookup_tags(tags, "https://example.org/y/b.jpg") == ("cow",)
    assert lookup_tags(dict(tags), Path("y/b.jpg")) == ("cow",)
    assert lookup_tags(tags, source("/elsewhere/c.png", "c")) is None
    assert lookup_tags(tags, source("/elsewhere/a.png", "a")) is None
    with pytest.raises(ValueError, match=r"'b\.jpg', 'b\.png'"):
        lookup_tags(Tags({"b.jpg": ("cat",), "b.png": ("cow",)}), source("/elsewhere/b.webp", "b"))


text = st.text(st.characters(exclude_characters=";|,\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
words = text.map(lambda t: " ".join(nfc(t).split())).filter(
    lambda t: t and ";" not in t and not is_number(t) and t.casefold() not in (*NOTHING, *GROUND, *IGNORED)
)
parts = st.text(st.sampled_from("abcÄ, \"'.#1"), min_size=1, max_size=6).map(str.strip).filter(
    lambda p: p and p.strip(".") and PurePosixPath("x" + p).suffix not in IMAGE_SUFFIXES)  # fmt: skip
pictures = st.lists(parts, min_size=1, max_size=3).map("/".join)


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(pictures, st.lists(words, unique=True, max_size=4), min_size=1, max_size=5),
    st.sampled_from([".jpg", ".PNG", ""]),
    st.sampled_from(["joined", "long", "no header"]),
)
def test_csv_round_trip(tmp_path_factory, table, suffix, form):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if form != "no header":
            writer.writerow(("image", "tags"))
        else:
            columns = {*IMAGE_COLUMNS, *TAG_COLUMNS}
            assume(suffix or not columns & {word.casefold() for row in table.items() for word in (row[0], *row[1])})
        for name, tags in table.items():
            if form == "no header":
                writer.writerow((name + suffix, *tags, ""))
            for row in [tags] if form == "joined" else [[tag] for tag in tags or [""]] if form == "long" else []:
                writer.writerow((name + suffix, "|".join(row)))
    assert read_tags(path) == {name: tuple(tags) for name, tags in table.items()}
