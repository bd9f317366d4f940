"""Pictures and masks on disk: what cannot be used is listed, what does not fit is said before work begins."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers_heads import FAST, SPEC, call, few_classes
from PIL import Image
from typer.testing import CliRunner

from clipseg_ws.cli.app import app
from clipseg_ws.embedded.nano.scenes import KINDS
from clipseg_ws.heads.base import make_head
from clipseg_ws.heads.file import load_head
from clipseg_ws.output.formats.png import write_label_png
from clipseg_ws.pictures.images import ImageError, read_image
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.run.training.data import size_in_header
from clipseg_ws.run.training.masks import feedback_targets, open_masks, shrink_targets
from clipseg_ws.run.training.options import Recipe

pytest_plugins = ("fixtures_heads",)


def damaged(scenes, tmp_path):
    """The scenes with a cut mask, a cut picture and a picture of another size: p1, p2, p3."""
    folder = tmp_path / "damaged"
    shutil.copytree(scenes / "photos", folder / "photos")
    masks = few_classes(scenes, tmp_path)
    cut(masks / "masks" / "p1.png")
    cut(folder / "photos" / "p2.png")
    with Image.open(folder / "photos" / "p3.png") as image:
        image.resize((40, 30)).save(folder / "photos" / "p3.png")
    return masks, folder / "photos"


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


@pytest.mark.parametrize("more", [("--views", 2, "--paste", 2), ("--augment",)], ids=["stored", "augment"])
def test_what_cannot_be_read_is_listed_and_the_rest_goes_on(scenes, tmp_path, more):
    masks, photos = damaged(scenes, tmp_path)
    said = call("train", masks, "--images", photos, "-o", tmp_path / "h.safetensors", *FAST, "--validation", 0, *more)
    assert "left out" in said and load_head(tmp_path / "h.safetensors")[1].training["pictures"] == 3
    with open(tmp_path / "h_training/errors.csv", newline="") as file:
        rows = {Path(row["image"].split("#")[0]).stem: row["message"] for row in csv.DictReader(file)}
    assert "p1.png" in rows["p1"] and "p2.png" in rows["p2"]
    assert "is 40 x 30 pixels, its mask 64 x 64; equal sizes" in rows["p3"]


def test_nothing_that_can_be_read(scenes, tmp_path):
    masks, photos = damaged(scenes, tmp_path)
    for path in masks.glob("masks/*.png"):
        cut(path)
    result = CliRunner().invoke(app, [str(a) for a in ("train", masks, "--images", photos, "-o",
                                tmp_path / "h.safetensors", *FAST)])  # fmt: skip
    assert "none of the 6 pictures can be used: cannot read" in str(result.exception)


def test_a_disk_that_is_too_small_for_the_tokens(scenes, tmp_path, monkeypatch):
    words = ["train", few_classes(scenes, tmp_path), "--images", scenes / "photos", "-o", tmp_path / "h.safetensors",
             *FAST, "--validation", 0]  # fmt: skip
    needed = 3 * (4 * 4 + 4 * 6) * 3 * 192 * 2  # three pictures of each size, three blocks of 192 channels, 2 bytes
    full = SimpleNamespace(free=needed - 1)
    monkeypatch.setattr("clipseg_ws.run.training.data.shutil.disk_usage", lambda folder: full)
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert "the tokens need 0.0 GB more" in str(result.exception) and "--augment" in str(result.exception)
    monkeypatch.setattr("clipseg_ws.run.training.data.shutil.disk_usage", lambda folder: SimpleNamespace(free=needed))
    call(*words)


def test_a_class_without_pixels_is_found_before_tokens_are_made(scenes, tmp_path):
    masks = few_classes(scenes, tmp_path)
    (masks / "classes.txt").write_text("background\nodd\neven\nthird\n")
    result = CliRunner().invoke(app, [str(a) for a in ("train", masks, "--images", scenes / "photos", "-o",
                                tmp_path / "h.safetensors", *FAST)])  # fmt: skip
    assert "no pixel of third" in str(result.exception)
    assert not (tmp_path / "h_training" / "tokens").exists()


def test_sizes_in_headers(tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    source = list_sources(str(path))[0]
    assert size_in_header(source) == read_image(source).size == (20, 40)
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError, match="cannot read"):
        size_in_header(source)
    assert size_in_header(list_sources("https://example.org/a.jpg")[0]) is None


def test_a_training_goes_on_only_as_it_began(scenes, tmp_path):
    two = few_classes(scenes, tmp_path)
    words = ["train", two, "--images", scenes / "photos", "-o", tmp_path / "h.safetensors", *FAST, "--validation", 0]
    call(*words)

    def refused(*more):
        result = CliRunner().invoke(app, [str(a) for a in [*words, *more]])
        assert isinstance(result.exception, ValueError) and "other settings" in str(result.exception)
        return str(result.exception)

    assert "augment: False there, True now" in refused("--augment")
    assert "dropout" in refused("--kind", "decoder(hidden=8, depth=1, upsample=2, dropout=0.5)")
    path = two / "masks" / "p0.png"
    labels = np.asarray(Image.open(path)).copy()
    labels[:16] = 1
    write_label_png(labels, path)
    assert "pictures and masks: " in refused()


def test_mask_folders(scenes, tmp_path):
    folder = open_masks(scenes / "masks")
    sources = list_sources(str(scenes / "photos"))
    targets = shrink_targets(map(folder.read, sources[:2]), [(4, 6), (4, 4)], 2)
    truth = np.asarray(Image.open(scenes / "masks" / "masks" / "p0.png"))
    assert targets.labels[0].shape == (8, 12) and (targets.confidence[0] == 255).all()
    assert targets.labels[0][3, 5] == truth[3 * 8 + 4, 5 * 8 + 4]
    with pytest.raises(FileNotFoundError, match=r"classes\.txt"):
        open_masks(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="'background' first"):
        open_masks(tmp_path)


@pytest.mark.parametrize(("refine", "wanted"), [("crf", 0.95), ("none", 0.8), ("guided", 0.5), ("", 0.5)])
def test_the_threshold_follows_the_masks(tmp_path, refine, wanted):
    (tmp_path / "classes.txt").write_text("background\ncat\n")
    if refine:
        (tmp_path / "settings.json").write_text(json.dumps({"settings": {"refine": refine}}))
    assert open_masks(tmp_path).threshold == wanted


@pytest.mark.parametrize("settings", [{}, {"structure": "similarity"}])
def test_feedback_targets_keep_to_the_tags(scenes, nano, settings):
    sources = list_sources(str(scenes / "photos"))[:2]
    folder = open_masks(scenes / "masks")
    grids = [(4, 6), (4, 4)]
    blank = shrink_targets(map(folder.read, sources), grids, 4)

    class Data:
        def __init__(self):
            self.grids, self.blocks, self.width = grids, 2, 192

        def target(self, i):
            return blank.labels[i], blank.confidence[i]

    head = make_head("decoder", 2, 192, len(KINDS) + 1, hidden=8)
    segmenter, words = nano.variant(**settings), nano.vocabulary(KINDS)
    made = feedback_targets(segmenter, head.eval(), SPEC, words, sources, Data(), blocks=3)
    for i in range(2):
        assert made.labels[i].shape == blank.labels[i].shape
        assert set(np.unique(made.labels[i])) <= {0, *np.unique(blank.labels[i])}


@pytest.mark.parametrize("scheme", ["rounds", "cotrain", "feedback"])
def test_schemes_that_make_masks_need_views_that_stay(scheme):
    with pytest.raises(ValueError, match="augment"):
        Recipe(scheme=scheme, augment=True)
