"""The registry of sources keeps its promises; what was cut once is kept on disk, and damage only costs time."""

from __future__ import annotations

import inspect
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from clipseg_ws.regions import LABELLERS, REGIONS
from clipseg_ws.regions.cut import Cutter, Cutters
from clipseg_ws.regions.store import load, path_of
from clipseg_ws.registry import parse_spec

LOCAL = [
    pytest.param(name, marks=pytest.mark.skipif(bool(e.needs) and not find_spec(e.needs[0]), reason=f"needs {e.needs}"))
    for name, e in REGIONS.items() if e.home and not e.about
]  # fmt: skip


def picture(height: int = 40, width: int = 56) -> Image.Image:
    blocks = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


@pytest.mark.parametrize("name", [name for name, entry in REGIONS.items() if entry.home])
def test_the_table_tells_the_functions_parameters(name):
    try:
        REGIONS[name].check_installed()
    except ImportError as error:
        pytest.skip(str(error))
    keywords = [p for p in inspect.signature(REGIONS[name].load()).parameters.values() if p.kind is p.KEYWORD_ONLY]
    network = {"device": "cpu", "offline": False} if REGIONS[name].about.get("network") else {}
    assert {p.name: p.default for p in keywords} == dict(REGIONS[name].parameters) | network


@pytest.mark.parametrize("name", LOCAL)
def test_every_source_covers_the_picture_the_same_way_twice(name, tmp_path):
    image = picture()
    kept = np.array(image)
    regions = Cutter(name, tmp_path)(image)
    assert regions.size == (40, 56) and regions.areas.sum() == 40 * 56 and (regions.partition() >= 0).all()
    again = Cutter(name, tmp_path / "other")(image)
    assert (again.partition() == regions.partition()).all() and (np.array(image) == kept).all()


def test_pictures_are_cut_once(tmp_path):
    first, second = Cutter("grow", tmp_path), Cutter("grow(side=8)", tmp_path)
    made = first(picture())
    assert first.cuts == 1 and (first(picture()).partition() == made.partition()).all() and first.cuts == 1
    assert (second(picture()).partition() == made.partition()).all() and second.cuts == 0  # from disk
    other = Cutter("grow(distance=1000, count=20)", tmp_path)
    assert len(other(picture())) == 20 < len(made) and other.cuts == 1
    assert first(picture(41)).size == (41, 56) and first.cuts == 2
    files = sorted(tmp_path.rglob("*.npz"))
    assert len(files) == 3
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    fresh = Cutter("grow", tmp_path)
    assert (fresh(picture()).partition() == made.partition()).all() and fresh.cuts == 1
    assert load(path_of(tmp_path, "ab"), (40, 56)) is None


def test_files_of_other_contents_count_as_none(tmp_path):
    path = tmp_path / "a.npz"
    good = dict(size=[2, 3], starts=[0, 3], lengths=[3, 3], offsets=[0, 1, 2], scores=[1.0, 1.0])
    np.savez(path, **good)
    assert load(path, (2, 3)) is not None and load(path, (3, 2)) is None
    for change in ({"starts": [0, 5]}, {"lengths": [0, 3]}, {"offsets": [0, 0, 2]}, {"offsets": [0, 2]}):
        np.savez(path, **good | change)
        assert load(path, (2, 3)) is None
    path.write_text("nothing")
    assert load(path, (2, 3)) is None


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match="not cached"):
        assert len(Cutter("grow", tmp_path / "file")(picture()))


def test_names_with_an_argument():
    assert parse_spec("files:a/b c", REGIONS, "x").resolved(REGIONS) == {"folder": "a/b c", "rest": -1}
    spec = parse_spec("sam:facebook/sam-vit-base(points=16)", REGIONS, "x")
    assert spec.get("repo") == "facebook/sam-vit-base" and spec.get("points") == 16
    for text in ("sam:facebook/sam-vit-base(points=16)", "files:C:/x y(rest=0)", "sam3:a/b(weight=0.5)"):
        table = LABELLERS if text.startswith("sam3") else REGIONS
        once = parse_spec(text, table, "x")
        assert parse_spec(str(once), table, "x") == once
    with pytest.raises(ValueError, match="region source 'grow:x' is unknown"):
        parse_spec("grow:x", REGIONS, "region source")
    with pytest.raises(ValueError, match="the region source 'none' cuts nothing"):
        Cutter("none")
    assert Cutters().of("none") is None and Cutters().labeller("none") is None
    with pytest.raises(ValueError, match="no model is named; write for example sam:facebook"):
        Cutters(offline=True).of("sam")
    with pytest.raises(ValueError, match="threshold in"):
        Cutters(offline=True).labeller("sam3:a/b(threshold=2)")
