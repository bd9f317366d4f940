"""Few-shot on real photos, end to end with a small random model: that it runs, nothing about its numbers."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.guard import parse_setting
from clipseg_ws.eval.predictors.segmenter import SegmenterPredictor
from clipseg_ws.eval.run.evaluation import Options, evaluate


@pytest.fixture
def segment(tiny_backbone):
    return Segmenter(backbone=tiny_backbone, short_side=96)


def test_photos_of_single_things(shared, segment):
    folder = shared / "data" / "few_shot_photos"
    names = sorted({p.stem.rpartition("_")[0] for p in folder.glob("*.jpg")})
    assert len(names) == 3
    bank = segment.bank([(folder / f"{name}_00.jpg", folder / f"{name}_00.png", name) for name in names])
    assert bank.shots() == dict.fromkeys(names, 1)
    queries = [folder / f"{name}_01.jpg" for name in names]
    for path, result in zip(queries, segment(queries, supports=bank), strict=True):
        with Image.open(path) as picture:
            assert result.labels.shape == (picture.height, picture.width)
        assert result.names == tuple(names) and result.source == str(path)
        assert set(np.unique(result.labels)) <= {0, 1, 2, 3}


@pytest.mark.parametrize("fold", [1, 2])
@pytest.mark.parametrize("setting", ["few-1", "weak-few-1"])
def test_pascal_episodes(shared, segment, tmp_path, fold, setting):
    root = shared / "data" / "voc_subset" / "VOC2012"
    dataset = load_dataset("pascal5i", root, setting=parse_setting(setting), fold=fold, count=3)
    words = dataset.sample(dataset.ids[0]).classes
    predictor = SegmenterPredictor(segment, dataset.setting, words)
    (row,) = evaluate(dataset, [predictor], tmp_path, options=Options(boundary=False, gallery=0))
    assert (row["n_images"], row["n_failed"]) == (3, 0) and row["fold"] == fold and row["shots"] == 1
    assert 0 <= row["mIoU"] <= 1 and 0 <= row["fb_iou"] <= 1
    assert row["labels_read"] != "none"
    with (tmp_path / "results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
