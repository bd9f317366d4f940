"""Every format that is written is read back by the product's own reader: 0 wrong pixels, outlines within tolerance."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from clipseg_ws.fewshot.masks import read_mask
from clipseg_ws.fewshot.shapes import fill
from clipseg_ws.output.formats import FORMATS, names_of
from clipseg_ws.output.formats.cvat import write_cvat
from clipseg_ws.output.formats.labelstudio import write_label_studio
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.output.formats.voc import write_voc
from clipseg_ws.output.formats.yolo import write_yolo
from clipseg_ws.output.items import Item
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.written import NOTE, was_written
from clipseg_ws.stored import voc_palette
from clipseg_ws.weak.readers.brush import decode_brush

NAMES = ("cat", "sofa, couch", "ship")
maps = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.sampled_from([0, 0, 1, 2, 3, 255]),
)  # fmt: skip
many = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def result(labels):
    rng = np.random.default_rng(int(labels.sum()))
    picture = Image.fromarray(rng.integers(128, 256, (*labels.shape, 3), dtype=np.uint8))
    confidence = rng.random(labels.shape, dtype=np.float32)
    return Segmentation(labels, NAMES, dict.fromkeys(NAMES, 0.5), confidence, image=picture, source="/p/x.jpg")


def test_every_format_has_a_round_trip():
    pixels = {"png", "rle", "polygons", "masks", "cutout", "confidence"}
    assert set(names_of("picture")) == pixels | {"overlay", "sheet", "csv", "json"}
    assert set(names_of("dataset")) == {"coco", "yolo", "voc", "labelstudio", "cvat"}


@many
@given(maps)
def test_the_files_of_a_picture(tmp_path_factory, labels):
    out, size = tmp_path_factory.mktemp("out"), labels.shape[::-1]
    formats = [f for f in ("png", "confidence", "masks", "cutout", "polygons", "rle") if _installed(f)]
    answer = result(labels)
    answer.save(out, formats)
    assert np.array_equal(read_label_png(out / "x.png"), labels)
    stored = np.asarray(Image.open(out / "x_confidence.png"))
    assert (np.abs(stored / 255 - answer.confidence) <= 0.5 / 255 + 1e-6).all()
    for label, name in enumerate(NAMES, 1):
        truth = (labels == label).astype(np.uint8)
        for folder in ("x_masks", "x_cutout"):
            path = out / folder / f"{name.replace(',', '_')}.png"
            assert path.exists() == bool(truth.any())
            if path.exists() and not truth.all():
                assert np.array_equal(read_mask(path, size), truth), (folder, name)
        if truth.any() and "rle" in formats:
            assert np.array_equal(read_mask(f"{out / 'x_rle.json'}#{label}", size) == 1, truth == 1)
    shapes = json.loads((out / "x_polygons.json").read_text())["shapes"]
    order = list(dict.fromkeys(shape["label"] for shape in shapes))
    for number, name in enumerate(order, 1):
        mask = read_mask(f"{out / 'x_polygons.json'}#{number}", size)
        assert np.array_equal(mask == 1, labels == NAMES.index(name) + 1)


def _installed(name):
    try:
        FORMATS[name].check_installed()
    except ImportError:
        return False
    return True


@many
@given(maps)
def test_the_files_of_a_folder(tmp_path_factory, labels):
    out = tmp_path_factory.mktemp("sets")
    item = Item("sub/x.jpg", labels)
    write_voc(out / "voc", [item], NAMES)
    assert np.array_equal(read_label_png(out / "voc/SegmentationClass/sub/x.png"), labels)
    write_cvat(out / "cvat.zip", [item], NAMES)
    with zipfile.ZipFile(out / "cvat.zip") as archive:
        colours = np.asarray(Image.open(io.BytesIO(archive.read("SegmentationClass/sub/x.png"))))
    assert np.array_equal(colours, voc_palette()[labels])
    write_label_studio(out / "ls.json", [item], NAMES)
    back = np.zeros_like(labels)
    for region in json.loads((out / "ls.json").read_text())[0]["predictions"][0]["result"]:
        (name,) = region["value"]["brushlabels"]
        back[decode_brush(region["value"]["rle"], labels.shape)] = 255 if name == "ignore" else NAMES.index(name) + 1
    assert np.array_equal(back, labels)
    write_yolo(out / "yolo", [item], NAMES, split="train", tolerance=0)
    back = np.zeros_like(labels)
    for line in (out / "yolo/labels/train/sub/x.txt").read_text().splitlines():
        number, *values = line.split()
        corners = np.array(values, float).reshape(-1, 2) * labels.shape[::-1]
        back[fill(np.rint(corners), labels.shape)] = int(number) + 1
    assert np.array_equal(back, np.where(labels == 255, 0, labels))


@pytest.mark.parametrize("tolerance", [0.5, 0.75, 2.0])
def test_simplified_outlines_differ_within_the_tolerance_only(tmp_path, tolerance):
    y, x = np.mgrid[:90, :120]
    labels = np.where((x - 60) ** 2 / 1600 + (y - 45) ** 2 / 900 < 1, 1, 0).astype(np.uint8)
    labels[(x - 60) ** 2 + (y - 45) ** 2 < 100] = 0  # a hole
    write_yolo(tmp_path, [Item("x.jpg", labels)], NAMES, split="train", tolerance=tolerance)
    (line,) = (tmp_path / "labels/train/x.txt").read_text().splitlines()
    filled = fill(np.array(line.split()[1:], float).reshape(-1, 2) * (120, 90), labels.shape)
    wrong = filled != (labels == 1)
    borders = np.zeros(labels.shape, bool)
    reach = int(np.ceil(tolerance))
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            borders |= np.roll(labels, (dy, dx), (0, 1)) != labels
    assert not (wrong & ~borders).any()
    assert wrong.any() or tolerance < 0.71  # below that no stair becomes a line


def test_coco_is_read_back_by_the_evaluation(tmp_path):
    tool = pytest.importorskip("pycocotools.mask", reason="extra [coco] is not installed")
    from clipseg_ws.eval.datasets.coco_instances import decode
    from clipseg_ws.output.formats.coco import write_coco

    labels = np.random.default_rng(3).choice([0, 1, 2, 3, 255], (23, 31)).astype(np.uint8)
    for style in ("rle", "polygons"):
        write_coco(tmp_path / "c.json", [Item("a.jpg", labels)], NAMES, style=style)
        back = np.zeros_like(labels)
        for entry in json.loads((tmp_path / "c.json").read_text())["annotations"]:
            back[decode(tool, entry["segmentation"], labels.shape)] = entry["category_id"]
        assert np.array_equal(back, np.where(labels == 255, 0, labels)), style


def test_every_png_says_who_wrote_it(tmp_path):
    labels = np.zeros((20, 30), np.uint8)
    labels[5:9, 5:9] = 1
    result(labels).save(tmp_path, ("png", "overlay", "confidence", "masks", "cutout"))
    files = list(tmp_path.rglob("*.png"))
    assert len(files) == 5
    for path in files:
        assert NOTE in path.read_bytes()[:4096] and was_written(path)
        with Image.open(path) as image:
            image.load()
            assert image.text["Software"] == "clipseg_ws"
