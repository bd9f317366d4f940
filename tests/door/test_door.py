"""The door for files from outside: limits, kinds of files, and one error that says file, place, fault and advice."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_errors import described, is_own
from PIL import Image

from clipseg_ws.door import InputError, limit, read_data, read_text, reading, regular, user_path
from clipseg_ws.door.documents import parse_json, parse_yaml, read_json, read_xml, read_yaml
from clipseg_ws.door.pictures import check_size, open_picture
from clipseg_ws.door.runs import decode_runs, draw_polygons
from clipseg_ws.door.tables import csv_rows, read_column, read_packed_text


def png(width: int, height: int, bits: int = 8, colour: int = 0) -> bytes:
    """A PNG whose header declares a size; its pixels are missing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def bomb(levels: int) -> str:
    """YAML whose last list stands for 9 ** levels words."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


def test_the_error_says_file_place_fault_and_advice():
    error = InputError("no number", file="a.json", place="line 3", advice="export it again")
    assert str(error) == "'a.json', line 3: no number; export it again"
    assert (error.file, error.place, error.advice) == ("a.json", "line 3", "export it again")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.file == "a.json" and type(again) is InputError


@pytest.mark.parametrize(
    "raised", [RecursionError(), MemoryError(), OverflowError("x\ny"), struct.error("y"), OSError(28, "full")]
)
def test_whatever_is_raised_becomes_it(raised):
    with pytest.raises(InputError, match=r"'f\.png'.*[^\n]*$") as caught, reading("f.png", "a picture"):
        raise raised
    assert is_own(caught.value)


def test_a_limit_is_changed_by_the_environment(monkeypatch):
    assert limit("pixels") == 100_000_000
    monkeypatch.setenv("CLIPSEG_WS_MAX_PIXELS", "1e3")
    with pytest.raises(InputError, match=r"32 x 32 pixels, at most 1000 pixels.*CLIPSEG_WS_MAX_PIXELS"):
        check_size(32, 32)
    monkeypatch.setenv("CLIPSEG_WS_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="whole number of at least 1"):
        limit("pixels")


@pytest.mark.parametrize("size", [(64_000_000, 1), (1, 63_000_000), (17_320, 17_320), (2**31 - 1, 2**31 - 1)])
def test_declared_sizes_are_refused_before_anything_is_decoded(tmp_path, size):
    (tmp_path / "a.png").write_bytes(png(*size))
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"a\.png.*pixels, at most"), open_picture(tmp_path / "a.png"):
        pass
    assert time.perf_counter() - start < 5


def test_postscript_is_no_picture(tmp_path):
    """Pillow would start ghostscript on it."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(InputError, match="known format"), open_picture(tmp_path / "a.png"):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    for read in (regular, read_data, read_text, read_json):
        with pytest.raises(InputError, match="a pipe, no regular file"):
            read(tmp_path / "a.png")
    with pytest.raises(InputError, match="a pipe"), open_picture(tmp_path / "a.png"):
        pass


def test_paths():
    with pytest.raises(InputError, match="no such user"):
        user_path("~nouser-of-this-name/x")
    with pytest.raises(InputError, match="zero byte"):
        user_path("a\0b")
    assert str(user_path("~")) != "~"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 50_000, "", "{", '{"a": 1' + "0" * 5000 + "}", "nope", "\x00", '"\ud800']
)
def test_json_is_read_or_refused(text):
    with pytest.raises(InputError) as caught:
        parse_json(text, "a.json")
    assert "'a.json'" in str(caught.value) and is_own(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (bomb(9), "its aliases stand for too many values"),
        ("a: &a [*a]", "an alias stands for a value around itself"),
        ("[" * 500, "nested too deeply"),
        ("!!python/object/apply:os.system [x]", "could not determine a constructor"),
        ("a: [1", "line 1"),
        ("!!timestamp x", "not YAML"),
        ("9" * 5000, "not YAML"),
    ],
)
def test_yaml_is_read_or_refused(text, said):
    with pytest.raises(InputError, match=said):
        parse_yaml(text, "a.yaml")


def test_yaml_still_means_what_it_did(tmp_path):
    text = "classes: &c [cat, 'dog, puppy']\nagain: *c\nn: 1e-3\nempty:\n"
    listed = ["cat", "dog, puppy"]
    assert parse_yaml(text) == {"classes": listed, "again": listed, "n": "1e-3", "empty": None}
    assert parse_yaml("") is None
    (tmp_path / "a.yaml").write_bytes("\ufeffa: ä".encode("utf-16"))
    assert read_yaml(tmp_path / "a.yaml") == {"a": "ä"}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'<?xml version="1.0" encoding="foo"?><a/>', "unknown encoding"),
        (b'<?xml version="1.0" encoding="hex"?><a/>', "none of text"),
        (b'<!DOCTYPE a [<!ENTITY b "cc">]><a>&b;</a>', "declares entities"),
        (b"<a>" * 5000 + b"</a>" * 5000, "nested too deeply"),
        (b"<a>", "not XML"),
        (b"", "not XML"),
    ],
)
def test_xml_is_read_or_refused(tmp_path, data, said):
    (tmp_path / "a.xml").write_bytes(data)
    with pytest.raises(InputError, match=said) as caught:
        read_xml(tmp_path / "a.xml")
    assert "a.xml" in str(caught.value)


def test_tables(tmp_path, monkeypatch):
    assert csv_rows("a,b\n\nc,d\n") == [(1, ["a", "b"]), (3, ["c", "d"])]
    monkeypatch.setenv("CLIPSEG_WS_MAX_ROWS", "3")
    with pytest.raises(InputError, match="at most 3 rows"):
        csv_rows("a\n" * 5)
    monkeypatch.setenv("CLIPSEG_WS_MAX_UNPACKED_BYTES", "100000")
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"0" * 10**7))
    with pytest.raises(InputError, match="when it is unpacked"):
        read_packed_text(tmp_path / "bomb.csv.gz")


def test_a_parquet_of_many_equal_rows_is_refused_by_its_footer(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"n": [1] * 9, "path": ["a.jpg"] * 9}), tmp_path / "a.parquet")
    assert read_column(tmp_path / "a.parquet", "a") == ["a.jpg"] * 9
    monkeypatch.setenv("CLIPSEG_WS_MAX_ROWS", "8")
    with pytest.raises(InputError, match="9 rows, at most 8"):
        read_column(tmp_path / "a.parquet", "a")
    with pytest.raises(InputError, match="not a Parquet file"):
        read_column(io.BytesIO(b"PAR1" + b"\0" * 40 + b"PAR1"), "a")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ({"size": [1000000, 1000000], "counts": "x"}, "pixels, at most"),
        ({"size": [60000, 1600], "counts": "x"}, "ends? inside a number|none can stand|add up"),
        ({"size": [4, 6], "counts": [3, 22]}, "add up to 25, not to 4 x 6"),
        ({"size": [4, 6], "counts": [-3, 27]}, "add up|counts"),
        ({"size": [4, 6], "counts": "zzzzzzzzzzzzzzzz"}, "none can stand|inside a number|add up"),
        ({"size": [4, float("inf")], "counts": []}, "its size is"),
        ({"size": [4, -6], "counts": []}, "two whole numbers from 1 on"),
        ({"size": "ab", "counts": []}, "height, width"),
        ({"size": [4, 6], "counts": 7}, "a list or COCO's compressed text"),
        ({"size": [4, 6], "counts": [True, 23]}, "no whole numbers"),
        ({"size": [4, 6]}, "has 'size' and 'counts'"),
        ([1, 2], "has 'size' and 'counts'"),
    ],
)
def test_run_lengths_are_counted_before_they_are_decoded(code, said):
    with pytest.raises(InputError, match=said):
        decode_runs(code)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.5, 0.9]))
def test_run_lengths_as_pycocotools_writes_them(height, width, seed, share):
    coco = pytest.importorskip("pycocotools.mask")
    mask = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    code = coco.encode(np.asfortranarray(mask))
    assert (decode_runs(code) == mask).all() and decode_runs(code).dtype == np.uint8
    assert (decode_runs(code | {"counts": code["counts"].decode()}, (height, width)) == mask).all()
    with pytest.raises(InputError, match="in a picture of"):
        decode_runs(code, (height + 1, width))


@pytest.mark.parametrize("corner", [1e9, float("nan"), float("inf"), "x", None])
def test_polygons_stay_near_the_picture(corner):
    pytest.importorskip("pycocotools.mask")
    assert draw_polygons([[0, 0, 4, 0, 4, 4]], (8, 8)).sum() > 0
    with pytest.raises(InputError, match="far outside"):
        draw_polygons([[0, 0, corner, 0, 4, 4]], (8, 8))
    for piece in ([0, 0, 1, 1], [0, 0, 1, 1, 2], 7):
        with pytest.raises(InputError, match="three corners"):
            draw_polygons([piece], (8, 8))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("door")
    readers = {"a.json": read_json, "a.yaml": read_yaml, "a.xml": read_xml, "a.csv.gz": read_packed_text}
    for name, read in readers.items():
        (folder / name).write_bytes(data)
        try:
            read(folder / name)
        except Exception as error:
            assert is_own(error) and name in str(error), described(error)


def test_a_mapping_of_the_picture_itself(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with open_picture(tmp_path / "a.png") as image:
        assert image.size == (4, 4)
    with pytest.raises(FileNotFoundError), open_picture(tmp_path / "no.png"):
        pass
    (tmp_path / "a.json").write_text(json.dumps([1]))
    assert read_json(tmp_path / "a.json") == [1]
