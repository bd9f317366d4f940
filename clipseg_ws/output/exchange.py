"""A result in the objects of other libraries: ``supervision.Detections``, FiftyOne's labels. They are imported on
call; the way back is in ``adapters``."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from clipseg_ws.output.items import Mask
from clipseg_ws.output.things import bounds, things
from clipseg_ws.structures import Result

KINDS = ("segmentation", "detections")


class Thing(NamedTuple):
    """A class that occurs, or an instance of one: its name, mask [H, W], box (x0, y0, x1, y1), ends exclusive, and the
    mean of the pixels' confidence, in [0, 1]."""

    name: str
    mask: Mask
    box: tuple[int, int, int, int]
    confidence: float


def needed(module: str, extra: str) -> Any:
    """A module of another library. Raises ImportError that says how it is installed."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"this needs {package}: pip install 'clipseg_ws[{extra}]' ({error})") from error


def listed(result: Result) -> list[Thing]:
    """Every thing of a result, classes in label order."""
    return [
        Thing(name, mask, bounds(mask), float(result.confidence[mask].mean(dtype=np.float64)))
        for name, mask in things(result)
    ]


def supervision_of(result: Result) -> Any:
    """See ``Segmentation.to_supervision``."""
    sv = needed("supervision", "supervision")
    found = listed(result)
    scores = [float(result.scores.get(thing.name, np.nan)) for thing in found]
    masks: npt.NDArray[np.bool_] = np.zeros((len(found), *result.labels.shape), bool)
    for row, thing in zip(masks, found, strict=True):
        row[:] = thing.mask
    return sv.Detections(
        xyxy=np.array([thing.box for thing in found], np.float32).reshape(-1, 4),
        mask=masks,
        class_id=np.array([result.names.index(thing.name) for thing in found], int),
        confidence=np.array([thing.confidence for thing in found], np.float32),
        data={"class_name": np.array([thing.name for thing in found], str), "score": np.array(scores, np.float32)},
    )


def fiftyone_of(result: Result, kind: str = "segmentation") -> Any:
    """See ``Segmentation.to_fiftyone``."""
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; allowed: {', '.join(KINDS)}")
    fo = needed("fiftyone", "fiftyone")
    if kind == "segmentation":
        return fo.Segmentation(mask=result.labels.copy())
    height, width = result.labels.shape
    made = []
    for name, mask, (x0, y0, x1, y1), confidence in listed(result):
        box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
        made.append(
            fo.Detection(label=name, bounding_box=box, mask=mask[y0:y1, x0:x1].copy(), confidence=confidence)
        )  # fmt: skip
    return fo.Detections(detections=made)
