"""Folders, globs and lists: which pictures they name, and under which names results are written."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipseg_ws.pictures.reading import ImageError, read_image
from clipseg_ws.pictures.sources import Source, list_sources

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)  # H=6, W=9


def put(path: Path, array: np.ndarray = PICTURE, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def names(sources: list[Source]) -> list[str]:
    return [str(source.relative) for source in sources]


def test_folder_is_recursive_sorted_and_skips_hidden(tmp_path):
    for name in ("b.png", "a.v2.JPG", "sub/deep/c.png", ".hidden.png", ".cache/d.png", "notes.txt", "mask.xml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    sources = list_sources(tmp_path)
    assert names(sources) == ["a.v2", "b", "sub/deep/c"]
    assert sources[2] == Source(str(tmp_path / "sub/deep/c.png"), PurePosixPath("sub/deep/c"))
    assert list_sources(str(tmp_path)) == sources


def test_linked_folder_is_followed(tmp_path):
    put(tmp_path / "store" / "x.png")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "link").symlink_to(tmp_path / "store")
    assert names(list_sources(tmp_path / "run")) == ["link/x"]


def test_glob_keeps_folders_below_its_fixed_part(tmp_path):
    for name in ("p/a/1.jpg", "p/b/2.jpg", "p/b/3.txt", "p/4.png", "q/5.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert names(list_sources(f"{tmp_path}/p/**/*.jpg")) == ["a/1", "b/2"]
    assert names(list_sources(f"{tmp_path}/p/b/*")) == ["2"]
    assert names(list_sources(f"{tmp_path}/[pq]/[0-9].*")) == ["p/4", "q/5"]


def test_a_folder_whose_name_looks_like_a_glob(tmp_path):
    put(tmp_path / "trip[1]" / "x.png")
    assert names(list_sources(tmp_path / "trip[1]")) == ["x"]


def test_list_file(tmp_path, monkeypatch):
    put(tmp_path / "lists/sub/a.png")
    put(tmp_path / "cwd/b.png")
    outside = put(tmp_path / "elsewhere/c.png")
    monkeypatch.chdir(tmp_path / "cwd")
    lines = f"\ufeff# comment\nsub/a.png\n\nb.png\n  {outside}  \nhttps://example.org/x/d%20e.jpg?size=2\ngone.png\n"
    (tmp_path / "lists/list.txt").write_text(lines, encoding="utf-8")
    sources = list_sources(tmp_path / "lists/list.txt")
    assert names(sources) == ["sub/a", "b", "c", "d e", "gone"]
    assert sources[1].location == "b.png" and sources[3].location.startswith("https://")
    with pytest.raises(ImageError, match=r"gone\.png.*no such file"):
        read_image(sources[4])


@pytest.mark.parametrize("text, error", [("# nothing\n", ValueError), ("no.jpg\nnope.jpg\n", FileNotFoundError)])
def test_list_file_without_pictures(tmp_path, text, error):
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(error, match=r"l\.txt"):
        list_sources(tmp_path / "l.txt")


def test_missing_empty_and_wrong_sources(tmp_path):
    for missing in (tmp_path / "no.jpg", f"{tmp_path}/*.jpg", ""):
        with pytest.raises(FileNotFoundError, match="allowed: an image file, a folder"):
            list_sources(missing)
    with pytest.raises(ValueError, match="no pictures in folder"):
        list_sources(tmp_path)
    with pytest.raises(ValueError, match="only http"):
        list_sources("ftp://example.org/a.jpg")
    with pytest.raises(TypeError, match="got int"):
        list_sources([3])


def test_same_stem_keeps_the_suffix_and_does_not_depend_on_the_order(tmp_path):
    for name in ("x/a.jpg", "x/a.png", "x/b.jpg"):
        put(tmp_path / name)
    assert names(list_sources(tmp_path)) == ["x/a.jpg", "x/a.png", "x/b"]
    files = [tmp_path / "x/a.png", tmp_path / "x/a.jpg"]
    assert names(list_sources(files)) == ["a.png", "a.jpg"]
    assert names(list_sources(files[::-1])) == ["a.jpg", "a.png"]


def test_same_name_from_two_folders_gets_a_hash_of_its_place(tmp_path, monkeypatch):
    put(tmp_path / "one/a.jpg")
    put(tmp_path / "two/A.jpg")  # on a file system that ignores case these would meet as well
    first = list_sources([tmp_path / "one", tmp_path / "two"])
    second = list_sources([tmp_path / "two", tmp_path / "one", tmp_path / "one"])
    assert sorted(names(first)) == sorted(names(second)) and len(set(names(first))) == 2
    assert names(first)[0].startswith("a.jpg-") and len(names(first)[0]) == len("a.jpg-") + 12
    monkeypatch.chdir(tmp_path)
    assert sorted(names(list_sources(["two", "one"]))) == sorted(names(first))


def test_a_folder_that_looks_like_the_masks_of_a_picture():
    place = ["a.jpg", "a_masks/cat.png", "b_masks/cat.png", "A_Cutout/deep/x.png", "a_maskset/y.png"]
    sources = [Source(f"/photos/{name}", PurePosixPath(name).with_suffix("")) for name in place]
    expected = ["a.jpg", "a_masks/cat.png", "b_masks/cat", "A_Cutout/deep/x.png", "a_maskset/y"]
    assert names(list_sources(sources)) == expected


FILES = r"([abA](_masks|_cutout){0,2}/)?[ab](_overlay|_rle|_masks|\.jpg|\.png){0,2}\.(jpg|png)"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.from_regex(FILES, fullmatch=True), unique=True))
def test_results_of_two_sources_never_share_a_file(files):
    from clipseg_ws.output.formats import names_of
    from clipseg_ws.output.save import output_paths

    given_names = [Source(f"/photos/{name}", PurePosixPath(name).with_suffix("")) for name in files]
    formats = names_of("picture")
    outputs = [path for s in list_sources(given_names) for path in output_paths("out", s.relative, formats)]
    assert len(set(outputs)) == len(outputs) == len(files) * len(formats)
    assert not any(outer in outputs for path in outputs for outer in path.parents)
