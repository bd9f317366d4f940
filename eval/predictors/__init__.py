"""What is evaluated: anything that answers samples. The evaluator knows no more of a method than stands here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from clipseg_ws.eval.guard import Sample


@dataclass(frozen=True, eq=False)
class Prediction:
    """An answer: labels integer [H, W] at the size of the image, and maps float [C, H, W] where there are some."""

    labels: np.ndarray
    maps: np.ndarray | None = None


class Predictor(Protocol):
    """Anything that answers samples."""

    name: str

    def describe(self) -> dict[str, Any]:
        """JSON-able settings that decide its answers; they are part of the run's identity."""
        ...

    def columns(self) -> dict[str, Any]:
        """Its columns of a results row."""
        ...

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """One answer a sample."""
        ...
