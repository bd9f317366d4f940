"""Label maps made from official annotations: right, idempotent, and readable by the data sets."""

from __future__ import annotations

import json

import layouts_eval as make
import numpy as np
import pytest
from scipy.io import savemat

from clipseg_ws.eval.datasets import PREPARATIONS
from clipseg_ws.eval.datasets.coco17 import object_table, stuff_table
from clipseg_ws.eval.datasets.context import CONTEXT_IDS
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.datasets.prepare import prepare
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.text.vocabulary import load_vocabulary

CATEGORIES = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def sbd(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"GTcls": {"Segmentation": labels, "CategoriesPresent": np.unique(labels)}})


def test_voc_aug_from_sbd(tmp_path):
    base = make.voc(tmp_path, {"t1": make.stripes(0, 3, 255)}, "train")
    make.listing(base / "ImageSets" / "Segmentation" / "val.txt", ["v1"])
    for id in ("t1", "s1", "v1"):
        sbd(tmp_path / "sbd" / "cls" / f"{id}.mat", make.stripes(0, 5, 20))
        make.picture(base / "JPEGImages" / f"{id}.jpg")
    done = prepare("voc-aug", tmp_path, source=tmp_path / "sbd")
    assert (done.made, done.kept) == (3, 0)
    assert np.array_equal(read_label_png(base / "SegmentationClassAug" / "s1.png"), make.stripes(0, 5, 20))
    assert np.array_equal(
        read_label_png(base / "SegmentationClassAug" / "t1.png"), make.stripes(0, 3, 255)
    )  # VOC's wins
    data = load_dataset("voc21", tmp_path, setting="weak", split="train_aug")
    assert data.ids == ("s1", "t1") and data.notes["masks"] == "SegmentationClassAug"
    before = state(base)
    again = prepare("voc-aug", tmp_path, source=tmp_path / "sbd")
    assert (again.made, again.kept) == (0, 3) and state(base) == before
    assert prepare("voc-aug", tmp_path, source=tmp_path / "sbd", overwrite=True).made == 3


def test_voc_aug_from_ready_masks_checks_them(tmp_path):
    base = make.voc(tmp_path, {"t1": make.stripes(0, 3)}, "train")
    make.listing(base / "ImageSets" / "Segmentation" / "val.txt", ["v1"])
    make.mask(tmp_path / "aug" / "s1.png", make.stripes(0, 21))
    with pytest.raises(DatasetError, match=r"labels \[21\]"):
        prepare("voc-aug", tmp_path, source=tmp_path / "aug")
    assert not list(base.glob("SegmentationClassAug/s1.png"))
    make.mask(tmp_path / "aug" / "s1.png", make.stripes(0, 20))
    assert prepare("voc-aug", tmp_path, source=tmp_path / "aug").made >= 1
    assert read_label_png(base / "SegmentationClassAug" / "s1.png").max() == 20


def test_coco_stuff_and_object_from_stuffthingmaps(tmp_path):
    base = tmp_path / "coco_stuff164k"
    raw = make.stripes(0, 12, 89, 91, 181, 255)
    make.picture(base / "images" / "val2017" / "000000000139.jpg")
    make.mask(base / "annotations" / "val2017" / "000000000139.png", raw, palette=False)
    for task in ("coco-stuff", "coco-object"):
        assert prepare(task, tmp_path).made == 1 and prepare(task, tmp_path).kept == 1
    stuff, objects = load_dataset("coco-stuff171", tmp_path), load_dataset("coco-object81", tmp_path)
    names = ("person", "stop sign", "toothbrush", "banner", "wood")
    assert [stuff.vocabulary.names[v - 1] for v in np.unique(stuff.truth("000000000139"))[:-1]] == list(names)
    assert stuff.truth("000000000139").max() == 255
    truth = objects.truth("000000000139")
    assert [int(truth[0, c]) for c in (0, 3, 6, 9, 12, 15)] == [
        1,
        12,
        80,
        0,
        0,
        0,
    ]  # unlabelled is background, as published


def test_tables_of_coco():
    assert len(set(stuff_table().tolist()) - {255}) == 171 and set(object_table().tolist()) == set(range(81))
    for raw, label in ((0, 1), (10, 11), (12, 12), (89, 80), (91, 0), (255, 0)):
        assert object_table()[raw] == label
    assert load_vocabulary("coco-stuff").names[:80] == load_vocabulary("coco-object").names


def instances(path, file_name):
    """Two objects (a polygon over an uncompressed run length), a crowd region, and a picture without objects."""
    height, width = make.SIZE
    crowd = [0, height * width]  # everything, column by column, starting with no zeros
    run = np.zeros((height, width), np.uint8)
    run[2:6, 3:9] = 1
    flat = run.T.ravel()
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    counts = np.diff(np.concatenate([[0], changes])).tolist()
    annotations = [
        {"image_id": 7, "category_id": 90, "iscrowd": 0, "segmentation": {"counts": counts, "size": [height, width]}},
        {"image_id": 7, "category_id": 18, "iscrowd": 0, "segmentation": [[6, 4, 12, 4, 12, 10, 6, 10]]},
        {"image_id": 7, "category_id": 1, "iscrowd": 1, "segmentation": {"counts": crowd, "size": [height, width]}},
    ]
    images = [
        {"id": i, "file_name": n, "height": height, "width": width} for i, n in ((7, file_name), (8, "empty.jpg"))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": i} for i in CATEGORIES]})
    )


def test_coco14_from_instances(tmp_path):
    pytest.importorskip("pycocotools")
    name = "COCO_val2014_000000000007"
    base = tmp_path / "COCO2014"
    instances(base / "annotations" / "instances_val2014.json", f"{name}.jpg")
    make.picture(base / "val2014" / f"{name}.jpg")
    assert prepare("coco14", tmp_path).made == 1  # the picture without objects is not of the set
    data = load_dataset("coco14", tmp_path, setting="weak")
    truth = data.truth(name)
    assert data.ids == (name,) and data.vocabulary.names[80 - 1] == "toothbrush" and data.vocabulary.names[16] == "dog"
    assert truth[0, 0] == 1 and truth[3, 4] == 80 and truth[5, 7] == 17  # crowd below, later objects above
    assert truth[9, 11] == 17 and truth[10, 12] == 1
    assert data.sample(name).labels.tags() == ("person", "dog", "toothbrush")


def test_coco_object_from_instances(tmp_path):
    pytest.importorskip("pycocotools")
    instances(tmp_path / "annotations" / "instances_val2017.json", "000000000007.jpg")
    assert prepare("coco-object", tmp_path, source="instances").made == 2
    assert not read_label_png(tmp_path / "annotations" / "val2017" / "empty_instanceTrainIds.png").any()


@pytest.mark.parametrize("kind", ["mat", "json"])
def test_context(tmp_path, kind):
    base = tmp_path / "VOC2010"
    make.picture(base / "JPEGImages" / "2008_000001.jpg")
    raw = np.zeros(make.SIZE, np.uint16)
    raw[:, 4:8], raw[:, 8:12], raw[:, 12:] = 2, 458, 459
    if kind == "mat":
        (base / "trainval").mkdir()
        savemat(base / "trainval" / "2008_000001.mat", {"LabelMap": raw})
        make.listing(base / "ImageSets" / "SegmentationContext" / "val.txt", ["2008_000001"])
    else:
        tool = pytest.importorskip("pycocotools.mask")
        codes = {v: tool.encode(np.asfortranarray(raw == v)) for v in (2, 458, 459)}
        marks = [
            {"id": v, "image_id": 5, "category_id": v, "segmentation": code | {"counts": code["counts"].decode()}}
            for v, code in codes.items()
        ]
        image = {"image_id": 5, "file_name": "2008_000001.jpg", "phase": "val", "height": 12, "width": 16}
        (base / "trainval_merged.json").write_text(json.dumps({"images": [image], "annos_segmentation": marks}))
    assert prepare("context", tmp_path).made == 1 and prepare("context", tmp_path).kept == 1
    data = load_dataset("context60", tmp_path)
    assert np.array_equal(data.truth("2008_000001"), make.stripes(0, 1, 59, 0))
    assert (data.vocabulary.names[0], data.vocabulary.names[58]) == ("aeroplane", "wood")


def test_context_ids():
    assert len(CONTEXT_IDS) == 59 == len(load_vocabulary("context").names) and list(CONTEXT_IDS) == sorted(CONTEXT_IDS)
    named = dict(zip(load_vocabulary("context").names, CONTEXT_IDS, strict=True))
    assert (named["person"], named["sky"], named["boat"], named["bottle"]) == (284, 360, 31, 34)


@pytest.mark.parametrize("task", sorted(PREPARATIONS))
def test_missing_annotations_show_the_expected_tree(task, tmp_path):
    with pytest.raises(DatasetError, match=r"expected:\n  \S|--source"):
        prepare(task, tmp_path)


def test_unknown_task():
    with pytest.raises(ValueError, match="choose from voc-aug"):
        prepare("voc", ".")
