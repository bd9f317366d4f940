"""What is measured on a data set under a protocol: the sums, how a picture is added, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.metrics.boundary import BoundaryIoU
from clipseg_ws.eval.metrics.confusion import ConfusionMatrix, joint_counts, scores
from clipseg_ws.eval.metrics.fewshot import FewShotMeter
from clipseg_ws.eval.metrics.thresholds import ThresholdSweep
from clipseg_ws.eval.predictors import Prediction
from clipseg_ws.eval.protocols import Protocol
from clipseg_ws.eval.run.identity import code_hash
from clipseg_ws.eval.run.state import RunState


@dataclass(frozen=True)
class Scorer:
    """Confusion matrix (or HSNet's sums for episodes), boundary IoU and threshold sweep of one data set.

    Attributes:
        dataset, protocol: what is scored and how classes are averaged.
        boundary, sweep: whether these are measured as well.
    """

    dataset: Dataset | EpisodeSet
    protocol: Protocol
    boundary: bool = True
    sweep: bool = False

    @property
    def measured(self) -> dict[str, bool]:
        """What is measured beside the sums of every data set."""
        return {"boundary": self.boundary, "sweep": self.sweep}

    @property
    def averaging(self) -> dict[str, Any]:
        """Arguments of every ``compute``: which classes take part in a mean."""
        average = getattr(self.dataset, "average", None) or self.protocol.average
        return {"average": average, "first_class": 0 if self.dataset.background else 1}

    def new_state(self) -> RunState:
        """Empty sums."""
        meters: dict[str, Any] = {}
        if isinstance(self.dataset, EpisodeSet):
            meters["fewshot"] = FewShotMeter(self.dataset.classes)
        else:
            meters["confusion"] = ConfusionMatrix(self.dataset.num_classes)
            if self.sweep:
                meters["sweep"] = ThresholdSweep(self.dataset.num_classes)
        if self.boundary:
            meters["boundary"] = BoundaryIoU(self.dataset.num_classes)
        return RunState(meters, code=code_hash())

    def add(self, state: RunState, id: str, answer: Prediction, truth: np.ndarray) -> float:
        """Add one picture to the sums and return its own IoU.

        Whatever can be wrong with an answer is found before the first sum grows. Raises ValueError for another size
        than the truth's, labels outside the classes, or missing maps.
        """
        labels = np.asarray(answer.labels)
        if labels.shape != truth.shape:
            raise ValueError(
                f"the prediction is {labels.shape}, the truth {truth.shape}; both are compared at one size"
            )
        if isinstance(self.dataset, EpisodeSet):
            class_id = self.dataset.episode(id).class_id
            intersection, union = state.meters["fewshot"].update(labels, truth, class_id)
            value = float(intersection[1] / max(1, union[1]))
        else:
            counts = joint_counts(labels, truth, self.dataset.num_classes)
            if self.sweep:
                if answer.maps is None:
                    raise ValueError("this method returns no maps to sweep thresholds over; use --no-sweep")
                state.meters["sweep"].update(answer.maps, truth)
            state.meters["confusion"].add(counts)
            value = scores(counts, **self.averaging)["mIoU"]
        if self.boundary:
            state.meters["boundary"].update(labels, truth)
        return value

    def compute(self, state: RunState) -> dict[str, Any]:
        """mIoU, pixel_accuracy, fb_iou, boundary_iou (nan where not measured), classes_counted, and per class
        "classes": [(name, iou, truth pixels)] of the classes that the protocol averages."""
        strips, first = self.averaging, 0
        if isinstance(self.dataset, EpisodeSet):
            result = state.meters["fewshot"].compute()
            strips = {"average": "union", "first_class": 1}  # of the object, not of the background
        else:
            result, first = state.meters["confusion"].compute(**strips), strips["first_class"]
        boundary = state.meters["boundary"].compute(**strips)["boundary_iou"] if self.boundary else float("nan")
        kept = ("mIoU", "pixel_accuracy", "fb_iou", "classes_counted")
        entries = zip(self.dataset.class_names, result["iou"], result["pixels"], strict=True)
        return {key: result[key] for key in kept} | {"boundary_iou": boundary, "classes": list(entries)[first:]}

    def miou(self, state: RunState) -> float:
        """The running mIoU alone."""
        if isinstance(self.dataset, EpisodeSet):
            return float(state.meters["fewshot"].compute()["mIoU"])
        return float(state.meters["confusion"].compute(**self.averaging)["mIoU"])

    def swept(self, state: RunState) -> list[dict[str, Any]]:
        """Scores at every background threshold and power; empty where none were swept."""
        if "sweep" not in state.meters:
            return []
        entries: list[dict[str, Any]] = state.meters["sweep"].compute(**self.averaging)
        return entries
