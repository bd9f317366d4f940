"""Colours of overlays: told apart by everybody; legends that keep the picture's size; sheets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from clipseg_ws.output.formats.overlay import overlay
from clipseg_ws.output.palette import safe_palette, seen_by, voc_palette
from clipseg_ws.output.save import save
from clipseg_ws.output.segmentation import Segmentation


def worst(colours: np.ndarray) -> float:
    """Smallest distance between two of the colours, in L*a*b*, for whichever eyes see it smallest."""
    seen = seen_by(colours)
    apart = np.linalg.norm(seen[:, :, None] - seen[:, None], axis=-1)
    apart[:, np.arange(len(colours)), np.arange(len(colours))] = np.inf
    return float(apart.min())


def test_colour_vision_of_known_colours():
    seen = seen_by(np.array([(255, 255, 255), (0, 0, 0), (255, 0, 0)], np.uint8))
    assert np.allclose(seen[:, 0], [100, 0, 0], atol=0.5) and np.allclose(seen[:, 1], 0, atol=1e-6)  # white, black
    assert np.allclose(seen[0, 2], [53.2, 80.1, 67.2], atol=0.5)  # sRGB red in CIE L*a*b*
    reds = seen_by(np.array([(180, 60, 60), (100, 100, 60)], np.uint8))
    assert np.linalg.norm(reds[2, 0] - reds[2, 1]) < 0.5 * np.linalg.norm(reds[0, 0] - reds[0, 1])  # red-green weakness


@pytest.mark.parametrize("count", [8, 13, 21])
def test_colours_are_told_apart_better_than_vocs(count):
    assert worst(safe_palette(count)) > 2.5 * worst(voc_palette(count))
    assert worst(safe_palette(count)) > 11


def test_a_colour_belongs_to_its_label_whatever_the_number_of_classes():
    assert np.array_equal(safe_palette(9), safe_palette(256)[:9]) and safe_palette(0).shape == (0, 3)
    assert safe_palette(1000).shape == (1000, 3) and not safe_palette(1000)[0].any()
    assert (safe_palette(1000)[1:].any(1)).all()  # black is the background's alone
    assert len({tuple(colour) for colour in safe_palette(200).tolist()}) == 200


def answer(size=(60, 90)) -> Segmentation:
    labels = np.zeros(size, np.uint8)
    labels[:30, 45:] = 1
    picture = Image.new("RGB", size[::-1], (10, 20, 30))
    return Segmentation(labels, ("cat", "dog"), {"cat": 0.5}, np.ones(size, np.float32), image=picture)


def test_legends_inside_and_none_keep_the_size():
    seg = answer((240, 360))
    seg.labels[:120, 180:] = 1  # the right upper corner is taken
    plain, inside = overlay(seg, legend="none"), np.asarray(overlay(seg, legend="inside"))
    assert plain.size == (360, 240) and inside.shape == (240, 360, 3)
    changed = (np.asarray(plain) != inside).any(-1)
    assert changed.any() and not changed[seg.labels == 1].any()  # it lies where no class is
    assert overlay(seg, legend="below").height > 240


def test_a_legend_inside_a_tiny_picture_is_cut():
    assert overlay(answer((8, 8)), legend="inside").size == (8, 8)


def test_outline_widths():
    seg = answer()
    none = np.asarray(overlay(seg, alpha=0.0, outline=0, legend="none"))
    assert (none == (10, 20, 30)).all()
    counts = [
        int((np.asarray(overlay(seg, alpha=0.0, outline=width, legend="none")) == safe_palette()[1]).all(-1).sum())
        for width in (1, 3)
    ]
    assert counts[0] == 30 + 45 - 1 and counts[1] == 3 * (30 + 45) - 9


def test_a_sheet_shows_the_picture_beside_its_overlay(tmp_path):
    (path,) = save(answer(), tmp_path, "sheet(legend=none, outline=0)", stem="a")
    assert path.name == "a_sheet.png"
    sheet = np.asarray(Image.open(path).convert("RGB"))
    assert sheet.shape == (60, 90 + 4 + 90, 3) and (sheet[:, 90:94] == 255).all()
    assert (sheet[:, :90] == (10, 20, 30)).all()
    assert np.array_equal(sheet[:, 94:], np.asarray(overlay(answer(), legend="none", outline=0)))
