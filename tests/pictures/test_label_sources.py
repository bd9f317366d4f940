"""A folder is what it holds, minus what was written; and lists as other programs save them."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import numpy as np
import pytest
from label_files import picture, write
from PIL import Image

from clipseg_ws.files import TextWarning
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.reading import read_image
from clipseg_ws.pictures.sources import IMAGE_SUFFIXES, list_sources
from clipseg_ws.pictures.suffixes import VIDEO_SUFFIXES
from clipseg_ws.pictures.written import MARKER, NOTE, mark_output, was_written


def result(path, formats=("png", "overlay", "json", "confidence"), relative="a"):
    """Files of a result, as a run writes them."""
    from clipseg_ws.output.save import save

    labels = np.ones((8, 8), np.uint8)
    image = Image.new("RGB", (8, 8))
    seg = Segmentation(labels, ("cat",), {"cat": 1.0}, np.ones((8, 8), np.float32), source="a.jpg", image=image)
    return save(seg, path, formats, relative=relative)


def names(sources):
    return [source.location.rsplit("/", 1)[1] for source in sources]


def test_suffixes_that_are_pictures(tmp_path):
    wanted = [s for s in IMAGE_SUFFIXES if s not in (".heic", ".heif", ".jp2", ".avif", ".ppm", ".pgm")]
    for suffix in wanted:
        kind = {".jfif": "JPEG", ".jpe": "JPEG", ".mpo": "JPEG"}.get(suffix)
        picture(tmp_path / f"p/x{suffix}", (8, 8), **({"format": kind} if kind else {}))
    for suffix in (".jp2", ".avif"):
        picture(tmp_path / f"p/x{suffix}", (8, 8))
    sources = list_sources(tmp_path / "p")
    assert {s.location.rpartition("x")[2] for s in sources} == {*wanted, ".jp2", ".avif"}
    assert all(read_image(source).size == (8, 8) for source in sources)
    assert len({s.relative for s in sources}) == len(sources)


@pytest.mark.skipif(find_spec("pillow_heif") is not None, reason="pillow-heif is installed")
def test_pictures_that_cannot_be_read_here_are_counted_and_named(tmp_path):
    picture(tmp_path / "p/a.jpg", (8, 8))
    for name in ("b.heic", "c.HEIC"):
        shutil.copy(tmp_path / "p/a.jpg", tmp_path / "p" / name)
    with pytest.warns(
        UserWarning, match=r"2 files in .* are left out \(b\.heic, c\.HEIC\).*pip install 'clipseg_ws\[heif\]'"
    ):
        assert names(list_sources(tmp_path / "p")) == ["a.jpg"]
    (tmp_path / "p/a.jpg").unlink()
    for place in (tmp_path / "p", tmp_path / "p/b.heic", f"{tmp_path}/p/*"):
        with pytest.raises(ValueError, match="needs pillow-heif"):
            list_sources(place)


@pytest.mark.parametrize("suffix", VIDEO_SUFFIXES)
def test_videos_get_their_own_message(tmp_path, suffix):
    write(tmp_path / f"p/clip{suffix}", "x")
    for place in (tmp_path / "p", tmp_path / f"p/clip{suffix}"):
        with pytest.raises(ValueError, match="a video; only pictures are read, take its frames: ffmpeg"):
            list_sources(place)


def test_the_output_folder_is_never_input(tmp_path):
    picture(tmp_path / "w/a.jpg", (8, 8))
    for _ in range(3):
        assert names(list_sources(tmp_path / "w", output=tmp_path / "w/clipseg_ws_out")) == ["a.jpg"]
        assert names(list_sources(f"{tmp_path}/w/**/*", output=tmp_path / "w/clipseg_ws_out")) == ["a.jpg"]
        result(tmp_path / "w/clipseg_ws_out", ["png"])


def test_outputs_of_other_runs_are_known_by_their_marker(tmp_path):
    picture(tmp_path / "w/a.jpg", (8, 8))
    assert mark_output(tmp_path / "w/one") and mark_output(tmp_path / "w/one")
    result(tmp_path / "w/one", ["png"])
    assert names(list_sources(tmp_path / "w")) == ["a.jpg"]
    with pytest.raises(ValueError, match=MARKER):
        list_sources(tmp_path / "w/one")
    assert not mark_output(tmp_path / "w") and names(list_sources(tmp_path / "w")) == ["a.jpg"]


@pytest.mark.parametrize("place", ["", "results"])
def test_results_are_known_by_their_record(tmp_path, place):
    """Beside the pictures, and in a folder that nobody marked."""
    picture(tmp_path / "w/a.jpg", (8, 8))
    picture(tmp_path / "w/b.png", (8, 8))
    picture(tmp_path / "w/c_overlay.png", (8, 8))  # somebody's own picture
    result(tmp_path / "w" / place)
    if place:
        shutil.copy(tmp_path / "w/a.jpg", tmp_path / "w/results/a.jpg")  # so that a.png there is a twin
    found = names(list_sources(tmp_path / "w"))
    assert sorted(set(found)) == ["a.jpg", "b.png", "c_overlay.png"]
    assert names(list_sources(f"{tmp_path}/w/*.png", output=tmp_path / "w")) == ["b.png", "c_overlay.png"]


def test_results_are_known_by_the_note_in_the_file(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    note = PngInfo()
    note.add_text(*NOTE.decode().split("\0"))
    Image.new("P", (8, 8)).save(tmp_path / "a.png", pnginfo=note)
    Image.new("P", (8, 8)).save(tmp_path / "b.png")
    assert was_written(tmp_path / "a.png") and not was_written(tmp_path / "b.png")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("line", ["r/ä 1.png", "r\\ä 1.png", '"r/ä 1.png"'])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists(tmp_path, encoding, line, end):
    picture(tmp_path / "r/ä 1.png", (8, 8))
    write(tmp_path / "l.txt", f"{line}{end}", encoding)
    assert names(list_sources(tmp_path / "l.txt")) == ["ä 1.png"]


def test_a_list_in_another_encoding_names_itself(tmp_path):
    picture(tmp_path / "r/ä.png", (8, 8))
    write(tmp_path / "l.txt", "r/ä.png\n", "cp1252")
    with pytest.warns(TextWarning, match=r"l\.txt' is read as Windows text"):
        assert names(list_sources(tmp_path / "l.txt")) == ["ä.png"]
    write(tmp_path / "l.txt", "r/кошка.png\n", "cp1251")
    with pytest.raises(ValueError, match=r"l\.txt': not a UTF-8 or UTF-16 text"):
        list_sources(tmp_path / "l.txt")
