"""Files of a result: palette, label PNG, overlay, JSON, CSV, RLE, masks, cut-outs, polygons."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clipseg_ws import __version__, registry
from clipseg_ws.files import TEMPORARY, append_csv
from clipseg_ws.output.formats import picture_formats
from clipseg_ws.output.formats.masks import class_files
from clipseg_ws.output.formats.overlay import overlay
from clipseg_ws.output.formats.png import read_label_png, write_label_png
from clipseg_ws.output.palette import safe_palette, voc_palette
from clipseg_ws.output.save import output_paths, save
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.output.table import format_table

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
    assert np.abs(image[100, 140] - (picture + np.array([230, 159, 0])) / 2).max() <= 1  # inside "cat"
    assert image[40, 80].tolist() == [230, 159, 0]  # its outline is opaque
    assert image[120, 20].tolist() == picture.tolist()  # far from everything
    assert image[38, 100].min() > 150  # light rim just outside
    assert seg.image.tobytes() == before
    assert np.array_equal(np.asarray(overlay(seg, alpha=0.0))[100, 140], picture)


def legend_colours(image: Image.Image, height: int) -> set[tuple[int, ...]]:
    legend = np.asarray(image)[height:].reshape(-1, 3)
    return {tuple(colour) for colour in legend.tolist()}


def test_legend_holds_the_classes_that_occur_and_no_others():
    palette = [tuple(c) for c in safe_palette().tolist()]
    colours = legend_colours(overlay(big()), 240)
    assert {palette[1], palette[3], (224, 224, 192)} <= colours and palette[2] not in colours
    voc = [tuple(c) for c in voc_palette().tolist()]
    assert {voc[1], voc[3], voc[255]} <= legend_colours(overlay(big(), palette="voc"), 240)


@pytest.mark.parametrize("size", [(30, 40), (90, 120), (375, 500), (1500, 1000)])
def test_legend_fits_any_picture(size):
    labels = np.arange(size[0] * size[1]).reshape(size) % 7
    names = tuple(f"class number {i} with a rather long name, longer than the legend shows" for i in range(6))
    image = overlay(result(labels.astype(np.uint8), names))
    legend = np.asarray(image)[size[0] :]
    assert image.width >= size[1] and len(legend) >= 12
    assert (legend[:, -1] == 255).all() and (legend[-1] == 255).all()  # nothing is cut off
    for label in range(1, 7):  # every swatch is there, at least 12 x 12 less its frame
        assert (legend == safe_palette()[label]).all(-1).sum() >= 100


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
    with pytest.raises(ValueError, match="outline=-2 is no width"):
        overlay(big(), outline=-2)
    with pytest.raises(ValueError, match="did you mean 'inside'"):
        overlay(big(), legend="insid")
    with pytest.raises(ValueError, match="choose one of safe, voc"):
        overlay(big(), palette="jet")


def test_overlay_of_255_classes_takes_255_as_a_class():
    names = tuple(f"c{i}" for i in range(1, 301))
    labels = np.full((240, 400), 255, np.int32)
    labels[:100] = 300
    table = format_table(result(labels, names))
    assert "c255" in table and "c300" in table and "(298 more names do not occur)" in table
    assert tuple(safe_palette(301)[300].tolist()) in legend_colours(overlay(result(labels, names)), 240)


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
    with pytest.raises(ValueError, match=r"'gif'.*png, overlay, sheet, json, confidence, rle, csv"):
        save(result(), tmp_path, ("png", "gif"))
    with pytest.raises(ValueError, match="no format"):
        picture_formats(" ,")
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "pycocotools" else object())
    with pytest.raises(ImportError, match=r"clipseg_ws\[coco\]"):
        save(result(), tmp_path, "png,rle")
    assert not list(tmp_path.iterdir())
    assert picture_formats("png, json,png") == ("png", "json")


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


def test_nothing_is_printed(tmp_path, capfd):
    save(result(), tmp_path, ("png", "overlay", "json", "confidence", "csv"))
    assert capfd.readouterr() == ("", "")


# --- a file for every class ------------------------------------------------------------------------------------------


def test_masks_and_cutouts_of_the_classes_that_occur(tmp_path):
    seg = result()
    masks, cutouts = save(seg, tmp_path, ("masks", "cutout"), stem="a.b")
    assert masks.name == "a.b_masks" and cutouts.name == "a.b_cutout"
    assert (
        sorted(p.name for p in masks.iterdir()) == sorted(p.name for p in cutouts.iterdir()) == ["cat.png", "sofa.png"]
    )
    for name in ("cat", "sofa"):
        with Image.open(masks / f"{name}.png") as image:
            assert image.mode == "L" and np.array_equal(np.asarray(image), seg.mask(name) * 255)
        with Image.open(cutouts / f"{name}.png") as image:
            cut = np.asarray(image)
            assert image.mode == "RGBA" and np.array_equal(cut[..., 3], seg.mask(name) * 255)
        assert (cut[seg.mask(name)] == [100, 150, 200, 255]).all() and not cut[~seg.mask(name)].any()


def test_masks_of_an_earlier_run_go(tmp_path):
    save(result(), tmp_path, ("masks",), stem="a")
    (folder,) = save(result(LABELS * 0), tmp_path, ("masks",), stem="a")  # nothing found: done, and empty
    assert folder.is_dir() and not list(folder.iterdir()) and len(list(tmp_path.iterdir())) == 1


def test_class_files_are_safe_and_differ():
    names = ("cat", "Cat", "traffic light", "a/b", "a:b", "..", "кошка", "x" * 99, "café\udce9", "dr. no.")
    files = class_files(names)
    assert files == [
        "cat#1.png", "Cat#2.png", "traffic light.png", "a_b#4.png", "a_b#5.png", "#6.png", "кошка.png",
        "x" * 60 + ".png", "café_.png", "dr. no.png",
    ]  # fmt: skip
    assert class_files(("cat", "CAT", "cat#1")) == ["cat#1.png", "CAT#2.png", "cat_1.png"]


def test_a_source_inside_the_folder_of_masks_is_spared(tmp_path):
    picture = tmp_path / "a_masks" / "cat.png"
    picture.parent.mkdir()
    Image.new("RGB", (10, 6)).save(picture)
    with pytest.raises(ValueError, match="overwritten by its own result"):
        save(result(source=str(picture)), tmp_path, ("masks",), stem="a")
    assert picture.exists()


def test_cutouts_need_the_picture(tmp_path):
    with pytest.raises(ValueError, match="keeps no picture"):
        save(replace(result(), image=None), tmp_path, ("cutout",))
    assert not list(tmp_path.iterdir())


def test_polygons_are_labelme(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (10, 6)).save(tmp_path / "photos" / "b.jpg")
    labels = LABELS.copy()
    labels[2, 3] = 0  # a hole
    seg = result(labels, source=str(tmp_path / "photos" / "b.jpg"))
    (path,) = save(seg, tmp_path / "out" / "sub", ("polygons",))
    content = json.loads(path.read_text(encoding="utf-8"))
    assert (path.parent / content["imagePath"]).samefile(tmp_path / "photos" / "b.jpg")
    assert (content["imageHeight"], content["imageWidth"], content["imageData"]) == (6, 10, None)
    assert [(s["label"], s["shape_type"]) for s in content["shapes"]] == [("cat", "polygon"), ("sofa", "polygon")]
    assert sorted(map(tuple, content["shapes"][1]["points"])) == [(7, 4), (7, 6), (10, 4), (10, 6)]
    x, y = np.array(content["shapes"][0]["points"]).T
    area = abs((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2
    assert area == 8  # 3 x 3 less the hole
    arrays = json.loads(save(result(), tmp_path, ("polygons",), stem="x")[0].read_text())
    assert arrays["imagePath"] == ""


def test_overlay_takes_its_alpha_from_the_format(tmp_path):
    (path,) = save(big(), tmp_path, "overlay(alpha=0.0)", stem="a")
    assert np.asarray(Image.open(path))[100, 140].tolist() == [100, 150, 200]
