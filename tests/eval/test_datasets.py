"""Readers of the official layouts, on tiny fixtures in those layouts and on the real photos where present."""

from __future__ import annotations

import json
from pathlib import Path

import layouts_eval as make  # pytest puts this folder on the path
import numpy as np
import pytest
from PIL import Image

from clipseg_ws.eval.datasets import coco17
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.predictors import Prediction
from clipseg_ws.eval.protocols import Protocol
from clipseg_ws.eval.run.scorer import Scorer
from clipseg_ws.text.vocabulary import load_vocabulary

VOC = load_vocabulary("voc").names


def test_voc_classes_and_ignored_labels(tmp_path):
    make.voc(tmp_path, {"2007_000001": make.stripes(0, 8, 15, 255), "2007_000002": make.stripes(0, 1, 12, 12)})
    whole = load_dataset("voc21", tmp_path)
    assert whole.ids == ("2007_000001", "2007_000002") and whole.split == "val" and whole.expected == 1449
    assert whole.vocabulary.names == VOC and whole.num_classes == 21 and whole.prompts == "voc-zero"
    assert sorted(np.unique(whole.truth("2007_000001"))) == [0, 8, 15, 255]
    assert Path(whole.sample("2007_000001").image).is_file()
    dropped = load_dataset("voc20", tmp_path)
    assert sorted(np.unique(dropped.truth("2007_000001"))) == [8, 15, 255]
    assert not dropped.background and dropped.vocabulary.background == () and whole.vocabulary.background


ANIMALS = ("cat", "cow", "dog", "horse", "person", "sheep")


def test_animals_are_scored_alone_in_every_setting(tmp_path):
    make.voc(tmp_path, {"a": make.stripes(0, 8, 15, 255), "b": make.stripes(0, 1, 12, 8)})
    zero = load_dataset("voc-animals", tmp_path)
    assert zero.vocabulary.names == VOC and zero.average == "truth"  # all 20 are asked, seven are scored
    assert sorted(np.unique(zero.truth("b"))) == [0, 8, 12, 255]  # the aeroplane is ignored, not background
    for kind in ("weak", "boxes", "points"):
        told = load_dataset("voc-animals", tmp_path, setting=kind, split="val")
        assert told.vocabulary.names == ANIMALS and told.average is None
        assert sorted(np.unique(told.truth("b"))) == [0, 1, 3, 255] and ANIMALS[3 - 1] == "dog" == VOC[12 - 1]
    assert told.sample("b").labels.weak(ANIMALS).tags == ("cat", "dog")
    few = load_dataset("voc-animals", tmp_path, setting="few-1", split="val", count=2)
    assert few.classes == (0,)  # the cat: no other has a second picture
    assert sorted(np.unique(few.mask("b", 0))) == [0, 1]  # the aeroplane is background here, as in PASCAL-5i


def test_another_name_costs_its_own_class_alone(tmp_path):
    make.voc(tmp_path, {"a": make.stripes(0, 8, 8, 1)})
    data = load_dataset("voc-animals", tmp_path)
    scorer = Scorer(data, Protocol("default"), boundary=False)
    state, truth = scorer.new_state(), data.truth("a")
    answer = make.stripes(0, 8, 20, 20)  # a quarter of the cat and the ignored aeroplane are called tvmonitor
    assert scorer.add(state, "a", Prediction(answer), truth) == pytest.approx((1 + 0.5) / 2)
    assert scorer.compute(state)["classes_counted"] == 2


def test_pictures_set_aside(tmp_path):
    names = [f"p{i}" for i in range(6)]
    make.listing(tmp_path / "list.txt", names)
    for i, name in enumerate(names):
        make.picture(tmp_path / "images" / f"{name}.jpg", i)
        make.mask(tmp_path / "masks" / f"{name}.png", make.stripes(0, 8 if i % 2 else 1, 255))
    data = load_dataset("voc-animals", tmp_path, split="set-aside")
    assert data.ids == ("p1", "p3", "p5")  # those that show an animal or a person
    assert data.split == "set-aside" and data.expected is None and sorted(np.unique(data.truth("p1"))) == [0, 8, 255]
    assert sorted(np.unique(load_dataset("voc21", tmp_path, split="set-aside").truth("p1"))) == [0, 8, 255]
    assert load_dataset("voc-animals", tmp_path, setting="few-1", split="set-aside", count=3).classes == (0,)
    (tmp_path / "masks" / "p0.png").unlink()
    with pytest.raises(DatasetError, match=r"p0\.png.*\n  VOC2012"):
        load_dataset("voc-animals", tmp_path, split="set-aside")


def test_voc_splits_and_mask_folders(tmp_path):
    base = make.voc(tmp_path, {"a": make.stripes(0, 8)}, "train", "SegmentationClassAug")
    make.mask(base / "SegmentationClass" / "a.png", make.stripes(0, 9))
    make.listing(base / "ImageSets" / "Segmentation" / "trainaug.txt", [])
    (base / "ImageSets" / "Segmentation" / "trainaug.txt").write_text("/JPEGImages/a.jpg /SegmentationClassAug/a.png\n")
    weak = load_dataset("voc21", base, setting="weak")
    assert weak.split == "train" and weak.notes["masks"] == "SegmentationClassAug" and weak.prompts == "voc"
    assert load_dataset("voc21", base, setting="weak", split="train_aug").ids == ("a",)
    make.listing(base / "ImageSets" / "Segmentation" / "val.txt", ["a"])
    assert load_dataset("voc21", base).notes["masks"] == "SegmentationClass"


def test_voc_official_tags_and_boxes(tmp_path):
    base = make.voc(tmp_path, {"a": make.stripes(0, 8)})
    make.annotation(base / "Annotations" / "a.xml", [("dog", 1, 1, 4, 12), ("cat", 9, 2, 16, 12), ("dog", 5, 5, 6, 6)])
    weak = load_dataset("voc21", tmp_path, setting="weak", split="val")
    labels = weak.sample("a").labels
    assert labels.tags() == ("cat", "dog") and labels.read == {"tags"}  # official: the mask knows no dog
    boxes = load_dataset("voc-animals", tmp_path, setting="boxes", split="val").sample("a").labels.boxes()
    assert boxes[0] == ("dog", 0.0, 0.0, 4.0, 12.0) and len(boxes) == 3
    make.annotation(base / "Annotations" / "a.xml", [("unicorn", 1, 1, 4, 12)])
    with pytest.raises(DatasetError, match="unicorn"):
        weak.sample("a").labels.tags()


def test_a_half_complete_root_counts_what_is_missing(tmp_path):
    base = make.voc(tmp_path, {"a": make.stripes(0, 8), "b": make.stripes(0, 9), "c": make.stripes(0, 9)})
    (base / "JPEGImages" / "b.jpg").unlink()
    (base / "SegmentationClass" / "c.png").unlink()
    with pytest.raises(DatasetError, match=r"2 files are missing.*b\.jpg.*c\.png.*\n  VOC2012"):
        load_dataset("voc21", tmp_path)
    with pytest.raises(DatasetError, match=r"test\.txt.*is missing"):
        load_dataset("voc21", tmp_path, split="test")


def test_context(tmp_path):
    make.context(tmp_path, {"2008_000001": make.stripes(0, 1, 59)})
    with_background = load_dataset("context60", tmp_path)
    assert with_background.num_classes == 60 and with_background.background
    assert sorted(np.unique(with_background.truth("2008_000001"))) == [0, 1, 59]
    assert sorted(np.unique(load_dataset("context59", tmp_path).truth("2008_000001"))) == [1, 59, 255]
    (tmp_path / "VOC2010" / "ImageSets" / "SegmentationContext" / "val.txt").unlink()
    with pytest.raises(DatasetError, match="eval prepare context"):
        load_dataset("context60", tmp_path)


def test_coco_stuff_and_object(tmp_path):
    base = tmp_path / "coco_stuff164k"
    make.picture(base / "images" / "val2017" / "000000000139.jpg")
    with pytest.raises(DatasetError, match="annotations"):
        load_dataset("coco-stuff171", tmp_path)
    (base / "annotations" / "val2017").mkdir(parents=True)
    with pytest.raises(DatasetError, match="eval prepare coco-stuff"):
        load_dataset("coco-stuff171", tmp_path)
    make.mask(base / "annotations" / "val2017" / "000000000139_labelTrainIds.png", make.stripes(0, 170, 255))
    make.mask(base / "annotations" / "val2017" / "000000000139_instanceTrainIds.png", make.stripes(0, 80))
    stuff, objects = load_dataset("coco-stuff171", tmp_path), load_dataset("coco-object81", base)
    assert sorted(np.unique(stuff.truth("000000000139"))) == [1, 171, 255] and not stuff.background
    assert stuff.vocabulary.names[0] == "person" and stuff.vocabulary.names[170] == "wood"
    assert sorted(np.unique(objects.truth("000000000139"))) == [0, 80] and objects.background
    assert objects.vocabulary.names[79] == "toothbrush" and objects.prompts == "coco-object-zero"
    assert len(coco17.RAW_STUFF) == 171 and coco17.RAW_STUFF[:12] == (*range(11), 12) and coco17.RAW_STUFF[-1] == 181


def test_official_masks_know_no_exif(tmp_path):
    base = tmp_path / "COCO2014"
    name = "COCO_val2014_000000000042"
    make.mask(base / "annotations" / "val2014" / f"{name}.png", make.stripes(0, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (*make.SIZE, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    (base / "val2014").mkdir(parents=True)
    Image.fromarray(pixels).save(base / "val2014" / f"{name}.jpg", exif=exif)
    data = load_dataset("coco14", tmp_path)
    image = data.sample(name).image
    assert isinstance(image, np.ndarray) and image.shape[:2] == data.truth(name).shape == make.SIZE


def test_ade150(tmp_path):
    base = tmp_path / "ADEChallengeData2016"
    make.picture(base / "images" / "validation" / "ADE_val_00000001.jpg")
    with pytest.raises(DatasetError, match="annotations"):
        load_dataset("ade150", tmp_path)
    make.mask(base / "annotations" / "validation" / "ADE_val_00000001.png", make.stripes(0, 1, 150), palette=False)
    data = load_dataset("ade150", tmp_path)
    assert sorted(np.unique(data.truth("ADE_val_00000001"))) == [1, 150, 255]
    assert (data.vocabulary.names[0], data.vocabulary.names[149]) == ("wall", "flag")
    with pytest.raises(DatasetError, match="choose from train, val"):
        load_dataset("ade150", tmp_path, split="test")


@pytest.mark.parametrize("trained", [False, True])
def test_cityscapes(tmp_path, trained):
    stem = "frankfurt_000000_000294"
    make.picture(tmp_path / "leftImg8bit" / "val" / "frankfurt" / f"{stem}_leftImg8bit.png")
    labels, ending = (make.stripes(0, 18, 255), "labelTrainIds") if trained else (make.stripes(7, 33, 4), "labelIds")
    make.mask(tmp_path / "gtFine" / "val" / "frankfurt" / f"{stem}_gtFine_{ending}.png", labels, palette=False)
    data = load_dataset("cityscapes19", tmp_path)
    truth = data.truth(data.ids[0])
    assert data.ids == (f"frankfurt/{stem}",) and sorted(np.unique(truth)) == [1, 19, 255]
    assert (data.vocabulary.names[0], data.vocabulary.names[18]) == ("road", "bicycle")


def test_plain_folder(tmp_path):
    make.plain(tmp_path, {"one": make.stripes(0, 1, 255), "two": make.stripes(2, 0)}, '[cat, "person, people"]')
    data = load_dataset("folder", tmp_path, setting="weak")
    assert data.vocabulary.synonyms == (("cat",), ("person", "people")) and data.ids == ("one", "two")
    labels = data.sample("two").labels
    assert labels.tags() == ("person",) and labels.read == {"tags from masks"}
    Image.new("RGB", (4, 4)).save(tmp_path / "masks" / "one.png")
    with pytest.raises(ValueError, match="mode RGB"):
        data.truth("one")


def test_scenes_are_drawn_without_files():
    data = load_dataset("scenes", setting="weak", count=3, size=64)
    assert len(data.ids) == 3 and data.expected is None and load_dataset("scenes").expected == 200
    sample = data.sample(data.ids[0])
    assert sample.image.shape == (64, 64, 3) and sample.image.dtype == np.uint8
    present = {data.vocabulary.names[i - 1] for i in np.unique(data.truth(data.ids[0])) if i}
    assert set(sample.labels.tags()) == present and sample.labels.read == {"tags"}
    with pytest.raises(DatasetError, match="takes no root"):
        load_dataset("scenes", "/somewhere")
    with pytest.raises(ValueError, match=r"takes no colour; its options are count, size"):
        load_dataset("scenes", colour="red")


def test_unknown_names_list_the_choices(tmp_path):
    with pytest.raises(ValueError, match=r"did you mean 'voc21'.* choose one of voc21, voc20"):
        load_dataset("voc2012")
    with pytest.raises(ValueError, match="few-shot settings only"):
        load_dataset("pascal5i", tmp_path)
    with pytest.raises(ValueError, match="belong to few-shot settings"):
        load_dataset("scenes", fold=1)


def test_the_real_subset(shared):
    root = shared / "data" / "voc_subset"
    data = load_dataset("voc21", root)
    assert len(data.ids) == 223 and len(load_dataset("voc-animals", root, split="train").ids) == 437
    truth = data.truth(data.ids[0])
    with Image.open(data.sample(data.ids[0]).image) as photo:
        assert photo.size == truth.shape[::-1]
    assert json.dumps(dict(data.notes))  # goes into the resolved configuration


def test_scenes100_asks_the_same_scenes_with_more_names():
    few, many = load_dataset("scenes", count=3, size=64), load_dataset("scenes100", count=3, size=64)
    assert many.ids == few.ids and len(many.vocabulary.names) == 100
    assert many.vocabulary.names[:12] == few.vocabulary.names  # so that the scenes' labels stay what they are
    assert (few.truth(few.ids[0]) == many.truth(many.ids[0])).all()
    scorer = Scorer(many, Protocol("default"), boundary=False)
    assert scorer.averaging["average"] == "truth"
    assert Scorer(few, Protocol("default"), boundary=False).averaging["average"] == "union"
