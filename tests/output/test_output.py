"""Files of a result: palette, label PNG, overlay, JSON, CSV, RLE, atomic writing, error table."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipseg_ws import __version__
from clipseg_ws.files import TEMPORARY
from clipseg_ws.output import files as output
from clipseg_ws.output.files import (
    FORMATS,
    ErrorsCsv,
    append_csv,
    atomic_write,
    check_formats,
    format_table,
    output_paths,
    overlay,
    read_label_png,
    save,
    voc_palette,
    write_label_png,
)
from clipseg_ws.pictures.sources import OUTPUT_ENDINGS
from clipseg_ws.structures import Segmentation

LABELS = np.zeros((6, 10), np.uint8)  # h != w; "dog" (label 2) is absent, one pixel is ignored
LABELS[1:4, 2:5], LABELS[4:, 7:], LABELS[0, 9] = 1, 3, 255


def result(labels: np.ndarray = LABELS, names: tuple[str, ...] = ("cat", "dog", "sofa"), **changes) -> Segmentation:
    picture = Image.new("RGB", labels.shape[::-1], (100, 150, 200))
    confidence = np.linspace(0, 1, labels.size, dtype=np.float32).reshape(labels.shape)
    seg = Segmentation(labels, names, {names[0]: 0.75, names[1]: 0.125}, confidence, image=picture)
    return replace(seg, **changes)


# --- palette and label PNG -------------------------------------------------------------------------------------------


def test_palette_is_the_official_one(shared):
    colours = voc_palette()
    assert colours.shape == (256, 3) and colours.dtype == np.uint8
    mask = next((shared / "data/voc_subset/VOC2012/SegmentationClass").glob("*.png"))
    stored = np.array(Image.open(mask).getpalette()).reshape(-1, 3)
    assert np.array_equal(colours[: len(stored)], stored)


def test_palette_known_colours_and_beyond_256():
    known = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}
    colours = voc_palette(1000)
    assert all(tuple(colours[label]) == colour for label, colour in known.items())
    assert len({tuple(colour) for colour in colours}) == 1000


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from(["uint8", "int32", "int64"]))
def test_labels_are_read_back_exactly(tmp_path_factory, height, width, seed, dtype):
    labels = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(dtype)
    labels[0, 0] = 255
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_label_png(labels, path)
    with Image.open(path) as image:
        assert image.mode == "P" and np.array_equal(np.asarray(image), labels)
        assert image.getpalette()[:765] == voc_palette().ravel().tolist()[:765]
    assert read_label_png(path).dtype == np.uint8 and np.array_equal(read_label_png(path), labels)


def test_many_classes_become_16_bit_grey(tmp_path):
    labels = np.array([[0, 255, 256], [300, 65535, 7]], np.int32)
    write_label_png(labels, tmp_path / "a.png")
    assert read_label_png(tmp_path / "a.png").dtype == np.int32
    assert np.array_equal(read_label_png(tmp_path / "a.png"), labels)
    write_label_png(labels[:1, :1], tmp_path / "b.png", classes=255)  # the vocabulary decides, not the picture
    assert Image.open(tmp_path / "b.png").mode == "I;16"
    write_label_png(labels[:1, :2], tmp_path / "b.png", classes=254)
    assert Image.open(tmp_path / "b.png").mode == "P"


def test_wrong_labels_and_pictures_are_errors(tmp_path):
    for labels, classes in (
        (np.array([[-1]]), None),
        (np.array([[70000]]), None),
        (np.array([[256]]), 20),
        (np.zeros((2, 2)), None),
        (np.zeros((2, 2, 1), int), None),
    ):
        with pytest.raises(ValueError, match="labels"):
            write_label_png(labels, tmp_path / "a.png", classes=classes)
    assert not list(tmp_path.iterdir())
    Image.new("RGB", (2, 2)).save(tmp_path / "c.png")
    with pytest.raises(ValueError, match="mode RGB"):
        read_label_png(tmp_path / "c.png")


# --- overlay and table -----------------------------------------------------------------------------------------------


def big() -> Segmentation:
    return result(LABELS.repeat(40, 0).repeat(40, 1))  # 240 x 400


def test_overlay_colours_outlines_and_leaves_the_rest():
    seg = big()
    before = seg.image.tobytes()
    image = np.asarray(overlay(seg, alpha=0.5))
    picture = np.array([100, 150, 200])
    assert image[:240, :400].shape == (240, 400, 3)
    assert np.abs(image[100, 140] - (picture + np.array([128, 0, 0])) / 2).max() <= 1  # inside "cat"
    assert image[40, 80].tolist() == [128, 0, 0]  # its outline is opaque
    assert image[120, 20].tolist() == picture.tolist()  # far from everything
    assert image[38, 100].min() > 150  # light rim just outside
    assert seg.image.tobytes() == before
    assert np.array_equal(np.asarray(overlay(seg, alpha=0.0))[100, 140], picture)


def legend_colours(image: Image.Image, height: int) -> set[tuple[int, ...]]:
    legend = np.asarray(image)[height:].reshape(-1, 3)
    return {tuple(colour) for colour in legend.tolist()}


def test_legend_holds_the_classes_that_occur_and_no_others():
    palette = [tuple(c) for c in voc_palette().tolist()]
    colours = legend_colours(overlay(big()), 240)
    assert {palette[1], palette[3], palette[255]} <= colours and palette[2] not in colours


@pytest.mark.parametrize("size", [(30, 40), (90, 120), (375, 500), (1500, 1000)])
def test_legend_fits_any_picture(size):
    labels = np.arange(size[0] * size[1]).reshape(size) % 7
    names = tuple(f"class number {i} with a rather long name, longer than the legend shows" for i in range(6))
    image = overlay(result(labels.astype(np.uint8), names))
    legend = np.asarray(image)[size[0] :]
    assert image.width >= size[1] and len(legend) >= 12
    assert (legend[:, -1] == 255).all() and (legend[-1] == 255).all()  # nothing is cut off
    for label in range(1, 7):  # every swatch is there, at least 12 x 12 less its frame
        assert (legend == voc_palette()[label]).all(-1).sum() >= 100


def test_overlay_with_another_picture_file_and_names_beyond_ascii(tmp_path):
    seg = replace(big(), names=("кошка", "chien", "canapé"), scores={})
    other = np.zeros((240, 400, 3), np.uint8)
    assert np.asarray(overlay(seg, image=other))[120, 20].tolist() == [0, 0, 0]
    Image.fromarray(other + 9).save(tmp_path / "a.png")
    from_file = overlay(replace(seg, image=None, source=str(tmp_path / "a.png")))
    assert np.asarray(from_file)[120, 20].tolist() == [9, 9, 9]


def test_overlay_errors():
    with pytest.raises(ValueError, match="3 x 3, the labels are 400 x 240"):
        overlay(big(), image=np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(ValueError, match="keeps no picture"):
        overlay(replace(big(), image=None))
    with pytest.raises(ValueError, match=r"alpha=1\.5"):
        overlay(big(), alpha=1.5)


def test_overlay_of_255_classes_takes_255_as_a_class():
    names = tuple(f"c{i}" for i in range(1, 301))
    labels = np.full((240, 400), 255, np.int32)
    labels[:100] = 300
    table = format_table(result(labels, names))
    assert "c255" in table and "c300" in table and "(298 more names do not occur)" in table
    assert tuple(voc_palette(301)[300].tolist()) in legend_colours(overlay(result(labels, names)), 240)


def test_table():
    lines = [line.split() for line in format_table(result()).splitlines()]
    assert lines == [
        ["class", "pixels", "score"],
        ["cat", "15.0%", "0.750"],
        ["sofa", "10.0%", "-"],
        ["dog", "0.0%", "0.125"],
        ["background", "73.3%", "-"],
    ]
    assert len({len(line) for line in format_table(result()).splitlines()}) == 1


# --- save ------------------------------------------------------------------------------------------------------------


def test_save_writes_the_default_three_and_mirrors_folders(tmp_path):
    seg = result(source="/photos/trip/img.v2.jpg", config={"method": "clip-es"})
    paths = seg.save(tmp_path)
    assert [p.name for p in paths] == ["img.v2.png", "img.v2_overlay.png", "img.v2.json"]
    assert np.array_equal(read_label_png(paths[0]), LABELS)
    again = save(seg, tmp_path, "json, png", relative="trip/img.v2")
    assert again == output_paths(tmp_path, "trip/img.v2", ("json", "png"))
    assert [p.relative_to(tmp_path).as_posix() for p in again] == ["trip/img.v2.json", "trip/img.v2.png"]
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(TEMPORARY)]


def test_names_without_a_source(tmp_path):
    assert save(result(), tmp_path, ("png",))[0].name == "image.png"
    assert save(result(), tmp_path, ("png",), stem="x.y")[0].name == "x.y.png"
    url = result(source="https://example.org/a/b.jpg?size=3")
    assert save(url, tmp_path, ("png",))[0].name == "b.png"


def test_json(tmp_path):
    config = {
        "alpha": np.float32(0.5),
        "sizes": (1, 2),
        "path": Path("x/y"),
        "bad": float("nan"),
        "t": torch.tensor([3]),
    }
    seg = result(source="kätzchen.jpg", config=config, setting="weak")
    content = json.loads(save(seg, tmp_path, stem="a")[2].read_text(encoding="utf-8"))
    assert content["config"] == {"alpha": 0.5, "sizes": [1, 2], "path": "x/y", "bad": None, "t": [3]}
    assert content["size"] == {"width": 10, "height": 6} and content["names"] == ["cat", "dog", "sofa"]
    assert content["shares"] == {"background": round(44 / 60, 6), "cat": 0.15, "dog": 0, "sofa": 0.1}
    assert content["scores"] == {"cat": 0.75, "dog": 0.125} and content["setting"] == "weak"
    assert content["source"] == "kätzchen.jpg" and content["version"] == __version__
    assert content["files"] == ["a.png", "a_overlay.png"]


def test_a_file_name_that_is_no_text(tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    path = save(result(source=name), tmp_path, ("json",), stem="a")[0]
    assert json.loads(path.read_text(encoding="utf-8"))["source"] == name
    append_csv(tmp_path / "e.csv", {"image": name})
    assert "udce9" in (tmp_path / "e.csv").read_text(encoding="utf-8")


def test_confidence_and_csv(tmp_path):
    seg = result()
    confidence, table = save(seg, tmp_path, ("confidence", "csv"))
    stored = np.asarray(Image.open(confidence))
    assert stored.dtype == np.uint8 and np.abs(stored / 255 - seg.confidence).max() <= 0.5 / 255 + 1e-6
    rows = list(csv.DictReader(table.open()))
    assert [(r["label"], r["name"], r["pixels"], r["score"]) for r in rows] == [
        ("0", "background", "44", ""), ("1", "cat", "9", "0.75"), ("2", "dog", "0", "0.125"), ("3", "sofa", "6", ""),
    ]  # fmt: skip


def test_rle_is_read_back_by_pycocotools(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    path = save(result(source="x/a.jpg"), tmp_path, ("rle",))[0]
    dataset = coco.COCO(str(path))
    assert dataset.imgs[1]["file_name"] == "a.jpg"
    assert [a["category_id"] for a in dataset.anns.values()] == [1, 3]
    for annotation in dataset.anns.values():
        mask = annotation["category_id"] == LABELS
        assert np.array_equal(dataset.annToMask(annotation), mask) and annotation["area"] == mask.sum()
    assert dataset.anns[1]["bbox"] == [2, 1, 3, 3] and dataset.anns[1]["score"] == 0.75


def test_formats_are_checked_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"'gif'.*png, overlay, json, confidence, rle, csv"):
        save(result(), tmp_path, ("png", "gif"))
    with pytest.raises(ValueError, match="no format"):
        check_formats(" ,")
    monkeypatch.setattr(output, "find_spec", lambda name: None if name == "pycocotools" else object())
    with pytest.raises(ImportError, match=r"clipseg_ws\[coco\]"):
        save(result(), tmp_path, "png,rle")
    assert not list(tmp_path.iterdir())
    assert check_formats("png, json,png") == ("png", "json")


def test_suffixes_are_known_to_the_naming_of_sources():
    for suffix, _ in FORMATS.values():
        assert suffix.split(".")[0] in ("", *OUTPUT_ENDINGS)
    assert len({suffix for suffix, _ in FORMATS.values()}) == len(FORMATS)


@pytest.mark.parametrize("name", ["../a", "/a", "", ".", "x/../../a"])
def test_nothing_is_written_outside_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match="below the output folder"):
        save(result(), tmp_path / "out", relative=name)
    with pytest.raises(ValueError):
        save(result(), tmp_path / "out", stem=name)
    assert not list(tmp_path.iterdir())


def test_the_picture_itself_is_never_overwritten(tmp_path):
    picture = tmp_path / "a.png"
    Image.new("RGB", (10, 6)).save(picture)
    before = picture.read_bytes()
    with pytest.raises(ValueError, match="overwritten by its own result"):
        save(result(source=str(picture)), tmp_path)
    assert picture.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(ValueError, match="not both"):
        save(result(), tmp_path, stem="a", relative="b")


# --- files -----------------------------------------------------------------------------------------------------------


def test_atomic_write_replaces_or_leaves_as_it_was(tmp_path):
    path = tmp_path / "sub" / "a.txt"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".txt" and not path.exists()
        temporary.write_text("one")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "one" and os.listdir(path.parent) == ["a.txt"]
    umask = os.umask(0o027)
    try:
        with atomic_write(path):
            pass
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o640


def test_concurrent_writers_leave_one_whole_file(tmp_path):
    path = tmp_path / "a.txt"
    seen: set[str] = set()

    def write(letter: str) -> None:
        for _ in range(20):
            with atomic_write(path) as temporary:
                temporary.write_text(letter * 50_000)
            seen.update({text for text in [path.read_text()] if len(text) != 50_000 or len(set(text)) != 1})

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not seen and os.listdir(tmp_path) == ["a.txt"]


def _append(folder: Path, who: int, barrier) -> None:
    for number in range(60):
        barrier.wait()  # all meet at a file that is not there yet
        append_csv(folder / f"{number}.csv", {"who": who, "text": 'x, "y"\n' * 50})


def test_append_csv_from_several_processes(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    workers = [context.Process(target=_append, args=(tmp_path / "new", who, barrier)) for who in range(4)]
    [w.start() for w in workers]
    [w.join() for w in workers]
    assert [w.exitcode for w in workers] == [0] * 4
    for path in (tmp_path / "new").iterdir():  # one header, all rows whole
        rows = list(csv.reader(path.open(newline="")))
        assert rows[0] == ["who", "text"] and sorted(rows[1:]) == [[str(w), 'x, "y"\n' * 50] for w in range(4)]


def test_append_csv_waits_for_the_lock(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "e.csv"
    with path.open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        thread = threading.Thread(target=append_csv, args=(path, {"a": 1}))
        thread.start()
        thread.join(0.2)
        assert thread.is_alive() and path.stat().st_size == 0
    thread.join()
    assert path.read_text() == "a\n1\n"


def test_append_csv_mends_an_unfinished_line_and_refuses_other_columns(tmp_path):
    path = tmp_path / "e.csv"
    append_csv(path, {"a": 1, "b": "é"})
    with path.open("a") as file:
        file.write("2,ki")  # killed here
    append_csv(path, {"a": 3, "b": "z"})
    assert path.read_text(encoding="utf-8") == "a,b\n1,é\n2,ki\n3,z\n"
    with pytest.raises(ValueError, match="columns a, b; the row has a, c"):
        append_csv(path, {"a": 1, "c": 2})


def test_errors_csv(tmp_path):
    errors = ErrorsCsv(tmp_path / "errors.csv")
    assert not errors.path.exists() and errors.count == 0
    errors.add(Path("x/a.jpg"), ValueError("bad,\n  very bad"))
    errors.add("b.jpg", OSError())
    assert errors.count == 2
    assert list(csv.reader(errors.path.open())) == [
        ["image", "error", "message"], ["x/a.jpg", "ValueError", "bad, very bad"], ["b.jpg", "OSError", ""],
    ]  # fmt: skip


def test_nothing_is_printed(tmp_path, capfd):
    save(result(), tmp_path, ("png", "overlay", "json", "confidence", "csv"))
    assert capfd.readouterr() == ("", "")
