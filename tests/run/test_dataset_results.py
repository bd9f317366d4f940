"""Data sets from a run's own results: by names, by examples, after a resumed run, with every format."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from clipseg_ws import Segmenter, Support
from clipseg_ws.output.datasets import write_datasets, written
from clipseg_ws.output.formats import FORMATS, split_formats
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.run.folder import run_folder

NAMES = ("cat", "dog")


@pytest.fixture
def segmenter(tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_WS_CACHE", str(tmp_path / "cache"))
    return Segmenter(backbone=tiny_backbone, attention_blocks=2, batch_size=2)


@pytest.fixture
def sources(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in (("a b.c.jpg", (48, 64, 3)), ("trip/b.png", (64, 40, 3)), ("trip/c.png", (48, 64, 3))):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return list_sources(tmp_path / "photos")


def check(out, entries):
    """The label maps on disk are those of the COCO file."""
    from pycocotools.coco import COCO

    coco = COCO(out / "coco.json")
    assert [image["file_name"] for image in coco.loadImgs(sorted(coco.imgs))] == [e.name for e in entries]
    for image, entry in zip(coco.loadImgs(sorted(coco.imgs)), entries, strict=True):
        rebuilt = np.zeros((image["height"], image["width"]), int)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            rebuilt += coco.annToMask(annotation).astype(int) * annotation["category_id"]
        assert np.array_equal(rebuilt, read_label_png(entry.labels))


def test_predict_with_every_format_and_a_resumed_run(segmenter, sources, tmp_path):
    out = tmp_path / "out"
    pictures, datasets = split_formats(list(FORMATS))
    assert run_folder(segmenter, sources[:2], out, segmenter.ask(NAMES), formats=pictures).failed == 0
    summary = run_folder(segmenter, sources, out, segmenter.ask(NAMES), formats=pictures)
    assert (summary.done, summary.skipped, summary.failed) == (1, 2, 0)
    entries = written(sources, out, pictures)
    made = write_datasets(datasets, out, NAMES, entries)
    assert len(entries) == 3 and all(path.exists() for path in made) and len(made) == len(datasets)
    check(out, entries)
    assert json.loads((out / "trip" / "b.json").read_text())["files"][-3:] == ["b_masks", "b_cutout", "b_polygons.json"]


def test_fewshot_by_labels_of_the_examples(segmenter, sources, tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 10:40] = 1
    bank = segmenter.bank([Support(str(sources[0]), mask, "boat")])
    pictures, datasets = split_formats("coco,masks")
    assert run_folder(segmenter, sources, tmp_path / "out", segmenter.ask(supports=bank), formats=pictures).failed == 0
    entries = written(sources, tmp_path / "out", pictures)
    write_datasets(datasets, tmp_path / "out", bank.labels, entries)
    check(tmp_path / "out", entries)
    assert json.loads((tmp_path / "out" / "coco.json").read_text())["categories"] == [{"id": 1, "name": "boat"}]
