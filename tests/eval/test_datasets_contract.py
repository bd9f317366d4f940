"""What every data set of the registry keeps to, on tiny fixtures; a new data set adds one to ``LAYOUTS``."""

from __future__ import annotations

import subprocess
import sys
from inspect import signature

import layouts_eval as make
import numpy as np
import pytest
from PIL import Image

from clipseg_ws.eval.datasets import AVG8, DATASETS, PREPARATIONS
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.datasets.load import expected_tree, load_dataset


def coco17(root):
    base = root / "coco_stuff164k"
    for i, name in enumerate(("000000000139", "000000000285")):
        make.picture(base / "images" / "val2017" / f"{name}.jpg", i)
        make.mask(base / "annotations" / "val2017" / f"{name}_labelTrainIds.png", make.stripes(0, 170, 255))
        make.mask(base / "annotations" / "val2017" / f"{name}_instanceTrainIds.png", make.stripes(0, 1, 80))


def coco14(root):
    base = root / "COCO2014"
    for i in range(3):
        name = f"COCO_val2014_{i:012d}"
        make.picture(base / "val2014" / f"{name}.jpg", i)
        make.mask(base / "annotations" / "val2014" / f"{name}.png", make.stripes(0, 1, 80, 255))


def ade(root):
    for i, name in enumerate(("ADE_val_00000001", "ADE_val_00000002")):
        make.picture(root / "ADEChallengeData2016" / "images" / "validation" / f"{name}.jpg", i)
        path = root / "ADEChallengeData2016" / "annotations" / "validation" / f"{name}.png"
        make.mask(path, make.stripes(0, 1, 150), palette=False)


def cityscapes(root):
    for i, stem in enumerate(("frankfurt_000000_000294", "frankfurt_000000_000576")):
        make.picture(root / "leftImg8bit" / "val" / "frankfurt" / f"{stem}_leftImg8bit.png", i)
        labels = root / "gtFine" / "val" / "frankfurt" / f"{stem}_gtFine_labelIds.png"
        make.mask(labels, make.stripes(7, 33, 4), palette=False)


def fss1000(root):
    for word in ("ab_wheel", "zebra"):
        for i in range(1, 4):
            make.picture(root / "FSS-1000" / word / f"{i}.jpg", i)
            make.mask(root / "FSS-1000" / word / f"{i}.png", make.stripes(0, 255), palette=False)


def voc(root):
    make.voc(root, {f"2007_00000{i}": make.stripes(0, 1, 8, 20, 255) for i in range(3)})


LAYOUTS = {
    "voc21": voc, "voc20": voc, "voc-animals": voc, "pascal5i": voc,
    "context60": lambda root: make.context(root, {"2008_000001": make.stripes(0, 1, 59)}),
    "context59": lambda root: make.context(root, {"2008_000001": make.stripes(0, 1, 59)}),
    "coco-object81": coco17, "coco-stuff171": coco17, "coco14": coco14, "coco20i": coco14,
    "ade150": ade, "cityscapes19": cityscapes, "fss1000": fss1000,
    "folder": lambda root: make.plain(root, {"a": make.stripes(0, 1, 255), "b": make.stripes(2, 0)}),
    "scenes": None, "scenes100": None,
}  # fmt: skip


def load(name, root):
    entry = DATASETS[name]
    few = entry.about["kind"] == "few-shot"
    options = {"count": 3} if few or LAYOUTS[name] is None else {}
    options |= {"fold": 0} if "fold" in signature(entry.load()).parameters and name != "fss1000" else {}
    options |= {"size": 48} if LAYOUTS[name] is None else {}
    return load_dataset(name, root, setting="few-1" if few else "zero", **options)


@pytest.fixture(params=DATASETS)
def data(request, tmp_path):
    """Every data set, loaded from its tiny fixture."""
    write = LAYOUTS[request.param]
    if write is not None:
        write(tmp_path)
    return load(request.param, None if write is None else tmp_path)


def test_a_data_set_is_what_its_line_says(data):
    about = DATASETS[data.name].about
    assert data.background == about["background"] and DATASETS[data.name].summary
    if about["splits"]:
        assert data.split in about["splits"] and data.expected in (about["splits"][data.split], None)
    assert data.ids and len(set(data.ids)) == len(data.ids)


def test_pictures_truth_and_names_fit(data):
    largest = len(data.class_names) if DATASETS[data.name].about["kind"] == "semantic" else 2
    for id in data.ids:
        sample, truth = data.sample(id), data.truth(id)
        if isinstance(sample.image, np.ndarray):
            size = sample.image.shape[:2]
        else:
            with Image.open(sample.image) as picture:
                size = picture.size[::-1]
        assert truth.dtype == np.uint8 and truth.shape == size
        found = set(np.unique(truth).tolist()) - {255}
        assert found and max(found) < largest and (data.background or 0 not in found)
        assert len(sample.classes.names) + 1 == data.num_classes and sample.background == data.background


@pytest.mark.parametrize("name", DATASETS)
def test_a_missing_folder_shows_the_expected_tree(name, tmp_path):
    tree = expected_tree(name)
    if not tree:
        with pytest.raises(DatasetError, match="takes no root"):
            load(name, tmp_path)
        return
    for root in (None, tmp_path / "nowhere", tmp_path):
        with pytest.raises(DatasetError) as error:
            load(name, root)
        assert tree in str(error.value) and str(error.value).startswith(name)


def test_the_registry_is_light_and_whole():
    code = "import sys, clipseg_ws.eval.datasets, clipseg_ws.eval.protocols; "
    code += "print(sorted({'torch', 'pandas', 'numpy', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    assert set(LAYOUTS) == set(DATASETS) and len(AVG8) == 8
    assert list(PREPARATIONS) == ["voc-aug", "context", "coco-object", "coco-stuff", "coco14"]
