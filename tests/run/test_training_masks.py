"""Masks of a head's training: the one that belongs to a picture, by the rule for all labels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.run.training.masks import open_masks


def masks(folder, *names, own=False):
    for number, name in enumerate(names, 1):
        path = folder / "masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 6), number, np.uint8)).save(path)
    (folder / "classes.txt").write_text("background\n" + "".join(f"class {i + 1}\n" for i in range(len(names))))
    if own:
        (folder / "settings.json").write_text('{"settings": {"refine": "crf"}}')
    return open_masks(folder)


def photos(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(folder / name)
    return {str(source).split("photos/")[1]: source for source in list_sources(folder)}


def test_a_persons_masks_are_matched_as_labels_are(tmp_path):
    pictures = photos(tmp_path / "photos", "a.jpg", "sub/a.jpg", "B c.JPG", "x.jpg")
    folder = masks(tmp_path / "m", "sub/a.png", "a.png", "b c.png")
    folder.fit(list(pictures.values()))
    read = {name: int(folder.read(source)[0][0, 0]) for name, source in pictures.items() if folder.has(source)}
    assert read == {"sub/a.jpg": 1, "a.jpg": 2, "B c.JPG": 3}
    with pytest.raises(FileNotFoundError, match=r"no mask of .*x\.jpg"):
        folder.read(pictures["x.jpg"])


def test_a_mask_that_fits_two_pictures_is_refused(tmp_path):
    pictures = photos(tmp_path / "photos", "a.jpg", "a.png")
    folder = masks(tmp_path / "m", "a.png")
    folder.fit(list(pictures.values()))
    assert [name for name, source in pictures.items() if folder.has(source)] == ["a.png"]  # the suffix counts
    other = list_sources(tmp_path / "photos/a.jpg") + list(photos(tmp_path / "two/photos", "a.bmp").values())
    with pytest.raises(ValueError, match=r"fits several pictures"):
        open_masks(tmp_path / "m").fit(other)


def test_confidence_is_no_mask_and_lies_beside_it(tmp_path):
    pictures = photos(tmp_path / "photos", "a.jpg", "a_confidence.jpg")
    folder = masks(tmp_path / "m", "a.png")
    Image.fromarray(np.full((4, 6), 99, np.uint8)).save(tmp_path / "m/masks/a_confidence.png")
    labels, sure = folder.read(pictures["a.jpg"])
    assert labels[0, 0] == 1 and sure[0, 0] == 99 and not folder.has(pictures["a_confidence.jpg"])


def test_masks_of_the_product_have_its_own_names(tmp_path):
    pictures = photos(tmp_path / "photos", "a.jpg", "a.png")
    folder = masks(tmp_path / "m", "a.jpg.png", "a.png.png", own=True)
    assert folder.own and [int(folder.read(pictures[n])[0][0, 0]) for n in ("a.jpg", "a.png")] == [1, 2]
