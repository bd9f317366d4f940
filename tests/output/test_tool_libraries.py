"""What is written is read back by the tools' own libraries: Label Studio, Datumaro (CVAT), Ultralytics."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from clipseg_ws.output.formats.coco import write_coco
from clipseg_ws.output.formats.cvat import write_cvat
from clipseg_ws.output.formats.labelstudio import write_label_studio
from clipseg_ws.output.formats.yolo import write_yolo
from clipseg_ws.output.items import Item

NAMES = ("cat", "dog", "potted plant")


@pytest.fixture
def labels():
    """h != w; class 2 absent, holes, a line one pixel wide, ignored pixels."""
    drawn = np.zeros((40, 56), np.uint8)
    drawn[3:20, 5:30], drawn[8:12, 10:16] = 1, 0
    drawn[25:38, 40:55], drawn[22, 2:50] = 3, 3
    drawn[30:34, 2:9] = 255
    return drawn


@pytest.fixture
def items(labels, tmp_path):
    found = []
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (*labels.shape, 3), np.uint8)).save(tmp_path / name)
        found.append(Item(name, labels, None, None, str(tmp_path / name)))
    return found


def test_label_studio_reads_its_brush_masks(items, labels, tmp_path):
    brush = pytest.importorskip("label_studio_sdk.converter.brush", reason="label-studio-sdk is not installed")
    write_label_studio(tmp_path / "ls.json", items, NAMES)
    back = np.zeros_like(labels)
    for region in json.loads((tmp_path / "ls.json").read_text())[0]["predictions"][0]["result"]:
        assert (region["original_height"], region["original_width"]) == labels.shape
        alpha = brush.decode_rle(region["value"]["rle"]).reshape(*labels.shape, 4)[..., 3]
        (name,) = region["value"]["brushlabels"]
        back[alpha > 127] = 255 if name == "ignore" else NAMES.index(name) + 1
    assert np.array_equal(back, labels)


def _by_datumaro(folder, form, labels):
    """[H, W] labels of the first picture as Datumaro reads them."""
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    data = datumaro.Dataset.import_from(str(folder), form)
    names = [label.name for label in data.categories()[datumaro.AnnotationType.label]]
    (first,) = [item for item in data if item.id == "a"]
    drawn = np.zeros_like(labels)
    for one in first.annotations:
        if one.type == datumaro.AnnotationType.mask:
            name = names[one.label]
            assert name in (*NAMES, "background", "ignore")
            if name in NAMES:
                drawn[one.image.astype(bool)] = NAMES.index(name) + 1
    return drawn


def test_datumaro_reads_what_cvat_imports(items, labels, tmp_path):
    pytest.importorskip("datumaro", reason="datumaro is not installed")
    write_cvat(tmp_path / "cvat.zip", items, NAMES)
    with zipfile.ZipFile(tmp_path / "cvat.zip") as archive:
        archive.extractall(tmp_path / "cvat")
    back = _by_datumaro(tmp_path / "cvat", "voc_segmentation", labels)
    assert np.array_equal(back, np.where(labels == 255, 0, labels))


def test_datumaro_reads_coco(items, labels, tmp_path):
    pytest.importorskip("datumaro", reason="datumaro is not installed")
    for folder in ("annotations", "images/train"):
        (tmp_path / "coco" / folder).mkdir(parents=True)
    for item in items:
        shutil.copy(item.location, tmp_path / "coco/images/train")
    write_coco(tmp_path / "coco" / "annotations" / "instances_train.json", items, NAMES)
    assert np.array_equal(_by_datumaro(tmp_path / "coco", "coco_instances", labels), np.where(labels == 255, 0, labels))


def test_ultralytics_takes_the_folder(items, labels, tmp_path):
    data = pytest.importorskip("ultralytics.data.utils", reason="ultralytics is not installed")
    write_yolo(tmp_path / "yolo", items, NAMES)
    found = data.check_det_dataset(str(tmp_path / "yolo" / "data.yaml"), autodownload=False)
    assert found["names"] == dict(enumerate(NAMES)) and found["nc"] == len(NAMES)
    pictures = sorted((tmp_path / "yolo" / "images").rglob("*.png"))
    assert len(pictures) == 2
    for picture in pictures:
        text = data.img2label_paths([str(picture)])[0]
        checked = data.verify_image_label((str(picture), text, "", False, len(NAMES), 0, 0, False))
        file, boxes, shape, segments, message = checked[0], checked[1], checked[2], checked[3], checked[-1]
        assert file == str(picture) and not message and shape == labels.shape
        assert sorted(set(boxes[:, 0].astype(int))) == [0, 2] and len(segments) == len(boxes)
        drawn = np.zeros_like(labels)
        for (number, *_), corners in zip(boxes, segments, strict=True):
            outline = corners * labels.shape[::-1]
            filled = data.polygon2mask(labels.shape, [np.rint(outline).astype(np.int32)], 1, 1)
            drawn[filled > 0] = int(number) + 1
        wrong = (drawn != np.where(labels == 255, 0, labels)).mean()
        assert wrong < 0.12  # its filling takes the border pixels too, on every side
    assert found["train"] != found["val"]

