"""Fixtures of the tests that train on pictures: a plugin, named by ``pytest_plugins`` in those files."""

from __future__ import annotations

import csv

import pytest
from helpers_heads import FAST, call, few_classes
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene
from clipseg_ws.output.formats.png import write_label_png


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Six drawn pictures of two sizes with true masks in the layout of ``pseudo``, and tags."""
    root = tmp_path_factory.mktemp("scenes")
    (root / "photos").mkdir()
    rows = [("image", "tags")]
    for i in range(6):
        scene = draw_scene(4_900_000 + i, (64, 64) if i % 2 else (64, 96))
        Image.fromarray(scene.image).save(root / "photos" / f"p{i}.png")
        write_label_png(scene.labels, root / "masks" / "masks" / f"p{i}.png")
        rows.append((f"p{i}.png", ";".join(scene.tags)))
    (root / "masks" / "classes.txt").write_text("".join(f"{n}\n" for n in ("background", *KINDS)))
    with open(root / "tags.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


@pytest.fixture(scope="module")
def nano(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPSEG_WS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Segmenter("nano", dtype="float32", short_side=64, refine="none")


@pytest.fixture(scope="module")
def trained(scenes, nano, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    call("train", few_classes(scenes, folder), "--images", scenes / "photos", "-o", folder / "head.safetensors", *FAST)
    return folder / "head.safetensors"
