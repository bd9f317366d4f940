"""Two that check the harness itself: the truth ("oracle") and noise."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from clipseg_ws.door.pictures import open_picture
from clipseg_ws.eval.guard import Sample
from clipseg_ws.eval.predictors import Prediction


class Oracle:
    """The truth as prediction (ignored pixels become 0): what a perfect method would score, 1.0 by definition."""

    name = "oracle"

    def describe(self) -> dict[str, Any]:
        """Nothing to set."""
        return {"method": self.name}

    def columns(self) -> dict[str, Any]:
        """The method's name only."""
        return {"method": self.name}

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Raises ProtocolViolation in any setting but "oracle"."""
        truths = [sample.labels.masks() for sample in samples]
        return [Prediction(np.where(truth == 255, 0, truth)) for truth in truths]


class Noise:
    """Random labels on a grid of 16 x 16 pixel cells, the same for a picture every time: the floor of a protocol."""

    name = "noise"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def describe(self) -> dict[str, Any]:
        """The seed."""
        return {"method": self.name, "seed": self.seed}

    def columns(self) -> dict[str, Any]:
        """Name and seed."""
        return {"method": self.name, "seed": self.seed}

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """Reads the size of the picture, nothing else."""
        return [Prediction(self._labels(sample)) for sample in samples]

    def _labels(self, sample: Sample) -> np.ndarray:
        if isinstance(sample.image, np.ndarray):
            height, width = sample.image.shape[:2]
        else:
            with open_picture(sample.image) as picture:
                width, height = picture.size
        seed = int.from_bytes(hashlib.sha256(f"{self.seed}/{sample.id}".encode()).digest()[:8], "big")
        low = 0 if sample.background else 1
        cells = np.random.default_rng(seed).integers(
            low, len(sample.classes.names) + 1, (-(-height // 16), -(-width // 16)), dtype=np.uint8
        )
        return np.kron(cells, np.ones((16, 16), np.uint8))[:height, :width]
