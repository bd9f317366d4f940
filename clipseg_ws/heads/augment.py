"""Tokens made on the fly from augmented pictures: nothing on disk, a new view of a picture at every visit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.heads.data import Batch
from clipseg_ws.heads.features import FeatureSpec, encode_features, grid_of, pixel_batch, shrink_target
from clipseg_ws.heads.identity import digest_of

Sample = tuple[Image.Image, np.ndarray, np.ndarray]  # picture, labels and confidence uint8 [H, W]


@dataclass(frozen=True)
class Augmentation:
    """How views differ: a cut of at least ``least`` of each side, a flip, brightness and contrast by +-``colour``."""

    least: float = 0.7
    flip: bool = True
    colour: float = 0.2

    def __call__(
        self, picture: Image.Image, labels: np.ndarray, confidence: np.ndarray, rng: np.random.Generator
    ) -> Sample:
        """The picture at its own size (so its grid stays), labels and confidence uint8 [H, W] cut and flipped alike."""
        (x0, y0, x1, y1), mirrored = self._cut(picture.size, rng)
        picture = picture.resize(picture.size, Image.Resampling.BICUBIC, box=(x0, y0, x1, y1))
        picture = ImageOps.mirror(picture) if mirrored else picture
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast):
            picture = change(picture).enhance(float(rng.uniform(1 - self.colour, 1 + self.colour)))
        maps = [cut_map(m, (x0, y0, x1, y1), m.shape, mirrored) for m in (labels, confidence)]
        return picture, maps[0], maps[1]

    def masks(
        self, labels: np.ndarray, confidence: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Labels and confidence of the view that the same ``rng`` gives, without its picture."""
        box, mirrored = self._cut((labels.shape[1], labels.shape[0]), rng)
        return cut_map(labels, box, labels.shape, mirrored), cut_map(confidence, box, labels.shape, mirrored)

    def _cut(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[tuple[int, int, int, int], bool]:
        """Box (x0, y0, x1, y1), ends exclusive, and whether the view is mirrored."""
        width, height = size
        share = rng.uniform(self.least, 1.0)
        w, h = max(1, round(width * share)), max(1, round(height * share))
        x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
        return (x, y, x + w, y + h), bool(self.flip and rng.random() < 0.5)


def cut_map(values: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, ...], mirrored: bool) -> np.ndarray:
    """The part of a map [H, W] inside ``box`` (x0, y0, x1, y1) at ``size`` (h, w), nearest pixel, then mirrored."""
    x0, y0, x1, y1 = box
    cut = shrink_target(np.ascontiguousarray(values[y0:y1, x0:x1]), size)
    return np.ascontiguousarray(cut[:, ::-1]) if mirrored else cut


class AugmentedData:
    """``HeadData`` that encodes a new view at every visit.

    Args:
        load: number -> (picture, labels uint8 [H, W], confidence uint8 [H, W]), all of one size.
        sizes: (width, height) of every picture. detail: targets are ``detail`` x the patch grid.
        change: what happens to every view after the augmentation.
        about: what decides the pictures and masks, for ``digest``; None: all are loaded there.
    """

    def __init__(
        self, backbone: Backbone, spec: FeatureSpec,
        load: Callable[[int], Sample], sizes: Sequence[tuple[int, int]],
        *, detail: int = 4, augmentation: Augmentation | None = None,
        change: Callable[[Sample, np.random.Generator], Sample] = lambda sample, rng: sample, about: Any = None,
    ) -> None:  # fmt: skip
        self.backbone, self.spec, self.load, self.detail = backbone, spec, load, detail
        self.augmentation, self.change, self.about = augmentation or Augmentation(), change, about
        self.grids = [grid_of(backbone, size, spec) for size in sizes]
        self.blocks, self.width = spec.count, backbone.width

    def batch(self, index: Sequence[int], seed: tuple[int, ...]) -> Batch:
        """Views decided by ``seed`` and the picture's place in the batch."""
        pictures, labels, confidence = [], [], []
        for place, i in enumerate(index):
            rng = np.random.default_rng((*seed, place))
            view = self.change(self.augmentation(*self.load(i), rng), rng)
            size = (self.grids[i][0] * self.detail, self.grids[i][1] * self.detail)
            pictures.append(view[0])
            labels.append(torch.from_numpy(shrink_target(view[1], size).copy()).long())
            confidence.append(torch.from_numpy(shrink_target(view[2], size).copy()).float() / 255)
        features = encode_features(self.backbone, pixel_batch(self.backbone, pictures, self.spec), self.spec)
        return Batch(features, torch.stack(labels), torch.stack(confidence), tuple(index))

    def target(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The whole picture's, not augmented."""
        return self.load(index)[1:]

    def digest(self) -> str:
        """See ``HeadData``."""
        made = (self.backbone.weights_sha256, self.spec, self.detail, self.augmentation, self.change, self.grids)
        if self.about is not None:
            return digest_of(*made, self.about)
        loaded = (self.load(i) for i in range(len(self.grids)))
        return digest_of(*made, [digest_of(np.asarray(picture), *masks) for picture, *masks in loaded])
