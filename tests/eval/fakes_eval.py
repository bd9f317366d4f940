"""For the evaluation tests: fast, deterministic Segmenters with the public call of the real one, and tables as rows."""

from __future__ import annotations

import numpy as np
from PIL import Image

from clipseg_ws.eval import tables
from clipseg_ws.output.segmentation import Segmentation


def records(path, columns=None):
    """The rows of a table, column -> text."""
    return tables.records(tables.read_table(path, columns))


class FakeBackbone:
    name = "ViT-B-16-quickgelu/openai"
    weights_sha256 = "0" * 64
    dtype = "torch.float32"
    device = "cpu"
    logit_scale = 100.0


class FakeSegmenter:
    """Answers by brightness: class = which share of the grey range a pixel falls into. Records its calls."""

    def __init__(self, model="fake", *, method="default", calls=None, **config):
        self.calls = [] if calls is None else calls
        self.config = {"method": method, "background_rule": "power", "alpha": 1.0, "refine": "none"} | config
        self.backbone = FakeBackbone()

    def variant(self, method=None, **config):
        kept = {"method": method or self.config["method"]} | config
        return FakeSegmenter(calls=self.calls, **kept)

    def ask(self, classes=None, background=None):
        return {"classes": classes, "background": background}

    def answer(self, question, pictures, *, tags=None, marks=None):
        return self(list(pictures), **question, tags=tags, weak=marks)

    def __call__(self, images, *, classes=None, background=None, tags=None, weak=None):
        several = isinstance(images, list)
        self.calls.append({"method": self.config["method"], "images": images, "classes": classes, "tags": tags,
                           "weak": weak, "background": background})  # fmt: skip
        results = [self._one(image, classes.names) for image in (images if several else [images])]
        return results if several else results[0]

    def _one(self, image, names):
        picture = Image.fromarray(image) if isinstance(image, np.ndarray) else Image.open(image)
        grey = np.asarray(picture.convert("L"), np.float32) / 255
        centres = (np.arange(len(names)) + 0.5) / len(names)
        maps = np.maximum(0, 1 - 3.5 * np.abs(grey[None] - centres[:, None, None])).astype(np.float32)
        if self.config["method"] == "clip-es":
            maps = maps[::-1].copy()
        labels = np.concatenate([1 - maps.max(0)[None], maps]).argmax(0).astype(np.uint8)
        extras = {"maps": maps} if self.config.get("keep_maps") else {}
        return Segmentation(labels, tuple(names), {}, maps.max(0), extras=extras)


class FakeFewShot(FakeSegmenter):
    """The same with supports: answers with the first support's mask, or everything where it has none."""

    def __call__(self, images, *, classes=None, supports=None, **rest):
        self.calls.append({"classes": classes, "supports": supports})
        picture = Image.fromarray(images) if isinstance(images, np.ndarray) else Image.open(images)
        shape = picture.size[::-1]
        mask = supports[0].mask if supports and supports[0].mask is not None else np.ones(shape, np.uint8)
        labels = (np.resize(mask, shape) == 1).astype(np.uint8)
        return Segmentation(labels, tuple(classes), {}, np.ones(shape, np.float32))
