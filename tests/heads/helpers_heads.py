"""Small made-up data that a head can learn, and the command line on drawn scenes."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from typer.testing import CliRunner

from clipseg_ws.cli.app import app
from clipseg_ws.heads.course import Course
from clipseg_ws.heads.data import ArrayData
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.output.formats.png import write_label_png

CLASSES = ("cat", "dog")
SPEC = FeatureSpec(blocks=(-1, 1), short_side=64)
KIND = "decoder(hidden=8, depth=1, upsample=2)"
_WORDS = "--model nano --dtype float32 --set short_side=64 --set refine=none --steps 6 --train batch=2"
FAST = [*_WORDS.split(), "--kind", KIND]


def toy(count: int = 12, seed: int = 0, grids=((4, 5), (3, 6)), noise: float = 0.3, detail: int = 2) -> ArrayData:
    """``count`` pictures of two grids: tokens [2, 8, h, w], labels [detail*h, detail*w] in 0..2 with some 255."""
    rng = np.random.default_rng(seed)
    codes = np.random.default_rng(99).normal(size=(3, 2, 8))
    features, labels, confidence = [], [], []
    for i in range(count):
        h, w = grids[i % len(grids)]
        patch = rng.integers(0, 3, (h, w))
        tokens = codes[patch] + noise * rng.normal(size=(h, w, 2, 8))  # [h, w, 2, 8]
        features.append(torch.from_numpy(tokens).permute(2, 3, 0, 1).float())
        mask = np.kron(patch, np.ones((detail, detail), int)).astype(np.uint8)
        sure = rng.uniform(0.5, 1, mask.shape)
        mask[rng.random(mask.shape) < 0.05] = 255
        labels.append(mask)
        confidence.append(sure)
    return ArrayData(features, labels, confidence)


def course(kind: str, data: ArrayData, training: dict, options: dict | None = None, **more) -> Course:
    """A course on toy data."""
    return Course(kind, TrainConfig.of(**training), data, CLASSES, options or {}, **more)


def call(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def few_classes(scenes, tmp_path):
    """The masks as two classes, so that both are in every handful of pictures: 1 = odd labels, 2 = even ones."""
    folder = tmp_path / "two"
    for path in sorted((scenes / "masks" / "masks").glob("*.png")):
        labels = np.asarray(Image.open(path))
        write_label_png(np.where(labels == 0, 0, 2 - labels % 2).astype(np.uint8), folder / "masks" / path.name)
    (folder / "classes.txt").write_text("background\nodd\neven\n")
    return folder
