"""Methods without any network: weak marks and the picture's colours alone, which shows what the refiners are worth.

``box-fill`` fills every box, smaller boxes on top; ``seeds`` spreads points or scribbles along like colours. Both take
``refine`` (a picture refiner by name), ``max_side`` (of the refiner's working picture) and ``certainty``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipseg_ws.eval.guard import Sample, Setting
from clipseg_ws.eval.predictors import Prediction
from clipseg_ws.pictures.images import to_image
from clipseg_ws.refine import REFINERS
from clipseg_ws.refine.picture import refine_picture
from clipseg_ws.stages.constrain import apply_constraints, constrained_label, spread_seeds
from clipseg_ws.stages.decide import narrow
from clipseg_ws.stages.labels import spread_labels
from clipseg_ws.weak.constraints import Constraints, constraints


def box_fill(image: Tensor, marks: Constraints, certainty: float) -> Tensor:
    """Scores [1+K, H, W]: ``certainty`` for the class of the smallest box over a pixel, the rest in equal shares."""
    labels = torch.zeros(image.shape[-2:], dtype=torch.int64)
    for label, x0, y0, x1, y1 in sorted(marks.boxes, key=lambda b: -(b[3] - b[1]) * (b[4] - b[2])):
        labels[y0:y1, x0:x1] = label
    count = len(marks.allow)
    hot = torch.nn.functional.one_hot(labels, count).permute(2, 0, 1).float()
    return hot * certainty + (1 - hot) * (1 - certainty) / max(count - 1, 1)


def seeds(image: Tensor, marks: Constraints, certainty: float) -> Tensor:
    """Scores [1+K, H, W]: nothing known but the seeds, spread by ``constrain.spread_seeds``."""
    return spread_seeds(torch.full((len(marks.allow), *image.shape[-2:]), 1 / len(marks.allow)), image, marks)


STARTS: dict[str, tuple[tuple[str, ...], Callable[[Tensor, Constraints, float], Tensor]]] = {
    "box-fill": (("boxes",), box_fill),
    "seeds": (("points", "scribbles"), seeds),
}


class WithoutNetwork:
    """One of ``STARTS`` and a refiner.

    Args:
        start: a key of ``STARTS``. setting: must be one it is for. name: in the results.
        refine, max_side: as for ``refine_picture``. certainty: of a filled box, in (0, 1]; only the CRF asks how much.

    Raises:
        ValueError: another setting, an unknown refiner or option value.
    """

    def __init__(
        self, start: str, setting: Setting, *, name: str = "", refine: str = "none", max_side: int | None = None,
        certainty: float = 0.7,
    ) -> None:  # fmt: skip
        kinds, self._start = STARTS[start]
        if setting.kind not in kinds:
            raise ValueError(f"{start!r} reads {', '.join(kinds)}, got --setting {setting.name}; e.g. {kinds[-1]}")
        if refine not in REFINERS or not 0 < certainty <= 1:
            raise ValueError(f"refine={refine!r}, certainty={certainty}; allowed: {', '.join(REFINERS)}, and (0, 1]")
        self.name = name or start
        self.options: dict[str, Any] = {"start": start, "refine": refine, "max_side": max_side, "certainty": certainty}

    def describe(self) -> dict[str, Any]:
        """The options."""
        return {"method": self.name} | self.options

    def columns(self) -> dict[str, Any]:
        """Its columns of a results row."""
        refine = str(self.options["refine"])
        side = self.options["max_side"]
        return {
            "method": self.name, "backbone": "none", "resize": side or "original", "refine": refine,
            "crf": "yes" if refine == "crf" else "no", "dtype": "float32", "device": "cpu",
        }  # fmt: skip

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """One answer a sample."""
        return [Prediction(self._labels(sample)) for sample in samples]

    def _labels(self, sample: Sample) -> np.ndarray:
        picture = np.array(to_image(sample.image))
        image = torch.from_numpy(picture).permute(2, 0, 1)  # uint8 [3, H, W]
        weak = sample.labels.weak(sample.classes.names)
        assert weak is not None
        marks = constraints(weak, sample.classes, picture.shape[:2])
        classes = list(marks.present or ())
        marks = marks.select(classes)
        scores = apply_constraints(self._start(image, marks, float(self.options["certainty"]))[None], marks)
        refined = refine_picture(
            str(self.options["refine"]),
            scores,
            image[None],
            max_side=self.options["max_side"],
        )
        labels = constrained_label(refined, marks)[0]
        spread = spread_labels(labels, torch.tensor([classes], dtype=torch.int64))
        answer: np.ndarray = narrow(spread, len(sample.classes.names))[0].numpy()
        return answer
