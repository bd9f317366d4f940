"""A run's id: everything that its numbers depend on changes it, field by field, and nothing else does."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path

import layouts_eval as make
import numpy as np
import pytest
from fakes_eval import FakeFewShot, FakeSegmenter

from clipseg_ws import Segmenter
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.guard import parse_setting
from clipseg_ws.eval.predictors.checks import Noise
from clipseg_ws.eval.predictors.segmenter import SegmenterPredictor
from clipseg_ws.eval.predictors.without_network import WithoutNetwork
from clipseg_ws.eval.protocols import Protocol
from clipseg_ws.eval.run.evaluation import evaluate
from clipseg_ws.eval.run.identity import content_digest, identity, run_id
from clipseg_ws.text.vocabulary import parse_classes

MEASURED = {"boundary": True, "sweep": False}


def name_of(data, protocol=None, predictor=None, limit=None, measured=None) -> str:
    content = identity(
        data, protocol or Protocol("default"), predictor or Noise(), limit=limit, measured=measured or MEASURED
    )
    return run_id(content)


@pytest.fixture
def root(tmp_path) -> Path:
    make.plain(tmp_path / "val", {n: make.stripes(*v) for n, v in {"a": (0, 1), "b": (1, 2), "c": (0, 2, 1)}.items()})
    return tmp_path / "val"


@pytest.fixture
def data(root) -> Dataset:
    return load_dataset("folder", root)


@pytest.fixture
def episodes(root) -> EpisodeSet:
    return load_dataset("folder", root, setting="few-1", count=4)


PICTURE, MASK = np.zeros((12, 16, 3), np.uint8), np.ones((12, 16), np.uint8)
DATASET = {  # field -> another value; every field must be here
    "name": "other", "split": "train", "setting": parse_setting("weak"), "vocabulary": parse_classes("cat, pet; dog"),
    "ids": ("a", "b"), "image": lambda id: PICTURE, "truth": lambda id: MASK, "background": False, "prompts": "voc",
    "root": Path("/elsewhere"), "expected": 7, "official": {"tags": lambda id: ("cat",)}, "notes": {"masks": "Aug"},
    "average": "truth", "files": lambda id: (),
}  # fmt: skip


def test_every_field_of_a_data_set_is_known_here():
    assert set(DATASET) == {f.name for f in fields(Dataset)} and set(EPISODES) == {f.name for f in fields(EpisodeSet)}
    assert set(PROTOCOL) | {"settings", "differing"} == {f.name for f in fields(Protocol)}


@pytest.mark.parametrize("field", DATASET)
def test_another_data_set(data, field):
    data = replace(data, files=None) if field in ("image", "truth") else data  # else the files stand for both
    assert name_of(replace(data, **{field: DATASET[field]})) != name_of(data)


EPISODES = {
    "name": "other", "split": "train", "setting": parse_setting("weak-few-1"), "episodes": 2, "classes": (1, 0),
    "names": {0: "cat", 1: "puppy"}, "image": lambda name: PICTURE, "mask": lambda name, class_id: MASK,
    "root": Path("/elsewhere"), "prompts": "voc", "expected": 7, "size": (40, 40), "background": False,
    "notes": {"episodes": "frozen list"}, "files": lambda name: (),
}  # fmt: skip


@pytest.mark.parametrize("field", EPISODES)
def test_other_episodes(episodes, field):
    base = replace(episodes, files=None) if field in ("image", "mask") else episodes
    value = base.episodes[:2] if field == "episodes" else EPISODES[field]
    assert name_of(replace(base, **{field: value})) != name_of(base)


PROTOCOL = {
    "name": "sclip", "method": "sclip", "resize": 336, "long_side": 2048, "window": 224, "stride": 112,
    "logit_scale": 40.0, "threshold": 0.1, "area_threshold": 0.1, "templates": "imagenet80", "refine": "pamr",
    "average": "truth", "score_size": (40, 40), "sweep": True, "more": {"affinity.threshold": 0.7},
}  # fmt: skip


@pytest.mark.parametrize("field", PROTOCOL)
def test_another_protocol(data, field):
    assert name_of(data, Protocol(**{"name": "default"} | {field: PROTOCOL[field]})) != name_of(data)


def test_what_is_measured_and_how_much(data):
    names = {name_of(data), name_of(data, limit=2), name_of(data, measured=MEASURED | {"boundary": False})}
    assert len(names | {name_of(data, measured=MEASURED | {"sweep": True})}) == 4


@pytest.mark.parametrize("place", ["images/b.jpg", "masks/c.png"])
def test_content_counts_wherever_it_lies(root, place):
    before = content_digest(load_dataset("folder", root))
    path = root / place
    original, state = path.read_bytes(), path.stat()
    path.write_bytes(original[:-4] + bytes(4))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert content_digest(load_dataset("folder", root)) != before
    path.write_bytes(original)
    assert content_digest(load_dataset("folder", root)) == before, "touched only"
    path.rename(path.with_name("away" + path.suffix))
    assert content_digest(replace(load_dataset_ids(root), ids=("a", "b", "c"))) != before


def load_dataset_ids(root):
    """The folder's data set, a missing file or not."""
    found = Dataset(
        "folder", "val", parse_setting("zero"), parse_classes("cat; dog"), (), lambda id: None, lambda id: None
    )
    return replace(found, files=lambda id: (root / "images" / f"{id}.jpg", root / "masks" / f"{id}.png"))


def test_official_marks_count(tmp_path):
    base = make.voc(tmp_path, {"a": make.stripes(0, 1)})
    make.annotation(base / "Annotations" / "a.xml", [("aeroplane", 1, 1, 5, 5)])
    before = name_of(load_dataset("voc21", tmp_path, setting="weak", split="val"))
    make.annotation(base / "Annotations" / "a.xml", [("bicycle", 1, 1, 5, 5)])
    assert name_of(load_dataset("voc21", tmp_path, setting="weak", split="val")) != before


def test_what_a_segmenter_depends_on(data, tiny_backbone):
    plain = {"backbone": tiny_backbone, "attention_blocks": 2}

    def predictor(vocabulary=None, background=True, setting="zero", **given):
        words = vocabulary or parse_classes("cat; dog", background=["sky"])
        made = Segmenter(**plain | given)
        return SegmenterPredictor(made, parse_setting(setting), words, background=background)

    others = [
        {"vocabulary": parse_classes("cat, kitten; dog", background=["sky"])},
        {"vocabulary": parse_classes("cat; dog", background=["grass"])},
        {"vocabulary": parse_classes("cat; dog", background=())},
        {"vocabulary": parse_classes([{"name": "cat", "prompts": ["a pet"]}, "dog"], background=["sky"])},
        {"templates": ["a bad photo of a {}."]}, {"fusion": "max"}, {"method": "cam"}, {"alpha": 2.0},
        {"affinity": False}, {"affinity.threshold": 0.7}, {"attention_blocks": 3}, {"saliency": True},
        {"refine": "pamr"}, {"refine": "pamr(iterations=5)"}, {"short_side": 64}, {"presence_threshold": 0.5},
        {"min_area": 0.1}, {"position_interpolation": "bilinear"}, {"logit_scale": 50.0},
    ]  # fmt: skip
    names = [name_of(data, predictor=predictor(**other)) for other in [{}, *others]]
    assert len(set(names)) == len(names)
    passing = [{"cache_mb": 5}, {"keep_maps": True}]
    assert {name_of(data, predictor=predictor(**other)) for other in passing} == {names[0]}


def test_what_other_methods_depend_on(data):
    box = parse_setting("boxes")
    made = [
        Noise(0), Noise(1), WithoutNetwork("box-fill", box), WithoutNetwork("box-fill", box, refine="pamr"),
        WithoutNetwork("box-fill", box, certainty=0.9), WithoutNetwork("box-fill", box, max_side=100),
        SegmenterPredictor(FakeSegmenter(), data.setting, data.vocabulary),
        SegmenterPredictor(FakeFewShot(method="clip-es"), data.setting, data.vocabulary),
    ]  # fmt: skip
    assert len({name_of(data, predictor=one) for one in made}) == len(made)


def test_results_of_other_data_are_not_continued(tmp_path):
    masks = {n: make.stripes(*v) for n, v in {"a": (0, 1), "b": (1, 2)}.items()}
    make.plain(tmp_path / "one" / "val", masks)
    make.plain(tmp_path / "two" / "val", {n: 2 - m for n, m in masks.items()})
    fresh = evaluate(load_dataset("folder", tmp_path / "two" / "val"), [Noise()], tmp_path / "fresh")[0]["mIoU"]
    first = evaluate(load_dataset("folder", tmp_path / "one" / "val"), [Noise()], tmp_path / "out")[0]["mIoU"]
    assert first != fresh
    assert evaluate(load_dataset("folder", tmp_path / "two" / "val"), [Noise()], tmp_path / "out")[0]["mIoU"] == fresh
    for name, mask in masks.items():  # the masks are mended in place
        make.mask(tmp_path / "two" / "val" / "masks" / f"{name}.png", mask)
    again = evaluate(load_dataset("folder", tmp_path / "two" / "val"), [Noise()], tmp_path / "out")[0]["mIoU"]
    assert again != fresh


def test_two_pictures_of_one_mask_are_refused(root):
    make.picture(root / "images" / "a.png")
    with pytest.raises(DatasetError, match=r"no mask.*a\.(jpg|png)"):
        load_dataset("folder", root)
