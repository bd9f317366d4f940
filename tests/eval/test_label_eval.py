"""Truth in evaluation: lists, folders of masks and COCO annotations as tools write them."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from label_files import picture, write
from PIL import Image

from clipseg_ws.eval.datasets.files import DatasetError, read_list
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.datasets.prepare import prepare

HALF = np.zeros((16, 16), np.uint8)
HALF[:, :8] = 1


@pytest.mark.parametrize(
    "text, ids",
    [
        ("2007_000001\r\n2007_000002\r\n", ("2007_000001", "2007_000002")),
        ("cam1.frame.001\n", ("cam1.frame.001",)),
        ("my photo 1\nmy photo 2\n", ("my photo 1", "my photo 2")),
        ("2007_000001\n2007_000001\n", ("2007_000001",)),
        ("2007_000001  1\n2007_000002 -1\n", ("2007_000001", "2007_000002")),
        ("/JPEGImages/a b.jpg /SegmentationClass/a b.png\n", ("a b",)),
        ("images\\a.jpg\n", ("a",)),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_split_lists(tmp_path, text, ids, encoding):
    assert read_list(write(tmp_path / "val.txt", text, encoding)) == ids


def data(tmp_path, pictures, masks, classes="[tree]"):
    for name in pictures:
        picture(tmp_path / "images" / name, (16, 16), format="JPEG" if name.lower().endswith("jpg") else None)
    for name, labels in masks.items():
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        image = labels if isinstance(labels, Image.Image) else Image.fromarray(labels)
        image.save(tmp_path / "masks" / name, format="PNG")
    write(tmp_path / "classes.yaml", f"classes: {classes}\n")
    return load_dataset("folder", tmp_path)


@pytest.mark.parametrize(
    "pictures, masks",
    [
        (["A.JPG"], ["A.PNG"]),
        (["a.tif", "b.png"], ["a.png", "b.png"]),
        (["a.b.png"], ["a.b.png"]),
        (["a.png", "day2/b.png"], ["a.png", "day2/b.png"]),
        (["x/1.png", "y/1.png"], ["x/1.png", "y/1.png"]),
        (["a.jpg", "a.png"], ["a.jpg.png", "a.png.png"]),
    ],
)
def test_every_picture_has_the_mask_of_its_name(tmp_path, pictures, masks):
    labels = {name: np.roll(HALF, i, axis=1) for i, name in enumerate(masks)}
    found = data(tmp_path, pictures, labels)
    assert len(found.ids) == len(pictures)
    order = {found.image(id).relative_to(tmp_path / "images").as_posix(): id for id in found.ids}
    for name, mask in zip(pictures, masks, strict=True):
        assert np.array_equal(found.truth(order[name]), labels[mask])


def test_twins_do_not_share_a_mask(tmp_path):
    with pytest.raises(DatasetError, match=r"1 pictures have no mask, e\.g\. '.*a\.jpg'"):
        data(tmp_path, ["a.jpg", "a.png"], {"a.png": HALF})


@pytest.mark.parametrize(
    "mask",
    [Image.fromarray(HALF * 255).convert("1"), Image.fromarray(HALF.astype(np.uint16)), HALF],
    ids=["1", "16", "8"],
)
def test_masks_that_mean_the_same(tmp_path, mask):
    found = data(tmp_path, ["a.png"], {"a.png": mask})
    assert np.array_equal(found.truth("a"), HALF) and found.truth("a").dtype == np.uint8


def test_an_object_written_as_255_is_refused(tmp_path):
    with pytest.raises(DatasetError, match=r"tree never occurs in the masks, while 1 of them hold 0 and 255 only"):
        data(tmp_path, ["a.png"], {"a.png": HALF * 255})
    border = HALF.copy()
    border[:, 8] = 255
    data(tmp_path / "border", ["a.png", "b.png"], {"a.png": border, "b.png": border}, "[tree, cow]")  # a real void


SQUARE = [10.0, 10, 30, 10, 30, 40, 10, 40]
BASE = {
    "id": 1,
    "image_id": 7,
    "category_id": 3,
    "iscrowd": 0,
    "area": 600,
    "bbox": [10, 10, 20, 30],
    "segmentation": [SQUARE],
}
TWO = BASE | {"id": 2}


@pytest.mark.parametrize(
    "more, words",
    [
        ([BASE], ""),
        ([BASE, TWO | {"segmentation": []}], "annotation 2: no segmentation"),
        ([BASE, TWO | {"segmentation": [[]]}], "annotation 2: no polygon with three corners"),
        ([BASE, {k: v for k, v in TWO.items() if k != "segmentation"}], "annotation 2: no segmentation"),
        ([BASE, TWO | {"segmentation": None}], "annotation 2: no segmentation"),
        ([BASE | {"segmentation": SQUARE}], ""),
        ([BASE, TWO | {"segmentation": [[10.0, 10, 30, 40]]}], "annotation 2: no polygon"),
        ([BASE | {"segmentation": [SQUARE, [50.0, 50, 52, 52]]}], "annotation 1: 1 of 2 pieces have no three corners"),
        (
            [BASE, TWO | {"segmentation": {"size": [64, 32], "counts": [0, 2048]}}],
            r"annotation 2: run lengths of \[64, 32\]",
        ),
        ([BASE, TWO | {"segmentation": {"size": [64, 64], "counts": [5]}}], "annotation 2: .*counts add up to 5"),
        ([BASE, TWO | {"image_id": 99}], "annotation 2: image_id 99"),
        ([BASE, TWO | {"category_id": 44}], "annotation 2: category_id 44"),
    ],
)
def test_coco_annotations_that_cannot_be_drawn_are_named(tmp_path, more, words):
    pytest.importorskip("pycocotools")
    (tmp_path / "annotations").mkdir()
    images = [{"id": 7, "file_name": "COCO_val2014_7.jpg", "width": 64, "height": 64}]
    content = {"images": images, "annotations": more, "categories": [{"id": 3, "name": "a"}, {"id": 90, "name": "b"}]}
    (tmp_path / "annotations/instances_val2014.json").write_text(json.dumps(content))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        prepare("coco14", tmp_path)
    text = " ".join(str(w.message) for w in said if "left out" in str(w.message))
    assert not text if not words else __import__("re").search(rf"instances_val2014\.json, {words}", text)
    made = tmp_path / "annotations/val2014/COCO_val2014_7.png"
    labels = np.asarray(Image.open(made))
    wanted = np.zeros((64, 64), np.uint8)
    wanted[10:40, 10:30] = 1
    assert np.array_equal(labels, wanted)


def test_a_picture_of_which_nothing_can_be_drawn_is_no_background(tmp_path):
    pytest.importorskip("pycocotools")
    images = [{"id": 7, "file_name": "COCO_val2014_7.jpg", "width": 8, "height": 8}]
    bad = BASE | {"segmentation": [[1.0, 1, 3, 4]]}
    content = {"images": images, "annotations": [bad], "categories": [{"id": 3, "name": "a"}]}
    write(tmp_path / "annotations/instances_val2014.json", content)
    with pytest.warns(UserWarning, match="annotation 1: no polygon"):
        prepare("coco14", tmp_path)
    assert (np.asarray(Image.open(tmp_path / "annotations/val2014/COCO_val2014_7.png")) == 255).all()


def test_a_mask_made_from_colours_is_refused(tmp_path):
    made = Image.fromarray(HALF * 255).quantize(2)
    assert sorted(np.unique(np.asarray(made))) == [0, 1] and np.asarray(made)[0, 0] == 0  # the object became 0
    with pytest.raises(DatasetError, match=r"a\.png' was made from colours"):
        data(tmp_path, ["a.png"], {"a.png": made})


def test_a_mask_that_cannot_be_read_fails_in_its_turn(tmp_path):
    found = data(tmp_path, ["a.png", "b.png"], {"a.png": HALF, "b.png": Image.new("RGB", (16, 16))})
    (tmp_path / "masks/a.png").write_bytes(b"no")
    for id, words in (("a", "cannot read"), ("b", "mode RGB")):
        with pytest.raises(ValueError, match=words):
            load_dataset("folder", tmp_path).truth(id)
    assert found.ids == ("a", "b")
