"""From ``supervision.Detections`` to label maps, weak labels and examples; ``Segmentation.to_supervision`` goes there.

Nothing of supervision is imported: whatever has its attributes will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clipseg_ws.adapters.truth import Given, examples, marked, painted
from clipseg_ws.output.items import Labels
from clipseg_ws.structures import Support, WeakLabels


def to_labels(detections: Any, names: Sequence[str], size: tuple[int, int] | None = None) -> Labels:
    """A label map [H, W], i + 1 = ``names[i]``; where masks overlap the smaller one is in front.

    Args:
        detections: with masks. names: of the classes; ``class_id`` i is ``names[i]`` where there is no "class_name".
        size: (H, W), only looked at where there are no detections.

    Raises:
        ValueError: no masks, a class that is none of ``names``, no detections and no size.

    Example:
        >>> path, image, detections = next(iter(dataset))
        >>> truth = to_labels(detections, dataset.classes)
    """
    masks = detections.mask
    if size is None:
        if masks is None or not len(detections):
            raise ValueError("no masks, so no size; give size=(height, width), or use to_weak_labels for boxes")
        size = tuple(np.asarray(masks[0]).shape)  # type: ignore[assignment]
    assert size is not None
    return painted(_things(detections, names), names, size)


def to_weak_labels(detections: Any, names: Sequence[str] | None = None) -> WeakLabels:
    """The boxes as weak labels, for ``Segmenter(..., weak=...)``.

    ``names`` as for ``to_labels``; they may be left out where the detections hold "class_name".

    Example:
        >>> segment(picture, "cat; dog", weak=to_weak_labels(detections))
    """
    return marked(_things(detections, names, masks=False))


def to_supports(image: Any, detections: Any, names: Sequence[str] | None = None) -> list[Support]:
    """An example a class: the picture with all its masks together.

    ``image`` as ``Support`` takes it; ``names`` as for ``to_weak_labels``. Raises ValueError without masks.
    """
    return examples(image, _things(detections, names))


def _things(detections: Any, names: Sequence[str] | None, masks: bool = True) -> list[Given]:
    called = _names(detections, names)
    boxes = np.asarray(detections.xyxy, float).tolist()
    drawn = [None] * len(boxes) if detections.mask is None or not masks else detections.mask
    return [
        Given(name, (box[0], box[1], box[2], box[3]), None if mask is None else np.asarray(mask, bool))
        for name, box, mask in zip(called, boxes, drawn, strict=True)
    ]


def _names(detections: Any, names: Sequence[str] | None) -> list[str]:
    """What every detection is called. Raises ValueError where that cannot be told."""
    called = (detections.data or {}).get("class_name")
    if called is not None:
        return [str(name) for name in called]
    if names is None:
        raise ValueError("the detections hold no class_name; give names=[...], where class_id i is names[i]")
    if detections.class_id is None and len(detections):
        raise ValueError("the detections hold neither class_name nor class_id, so it is not known what they are")
    numbers = [] if detections.class_id is None else [int(number) for number in detections.class_id]
    if odd := [number for number in numbers if not 0 <= number < len(names)]:
        raise ValueError(f"class_id {odd[0]}, and there are {len(names)} names (0 to {len(names) - 1})")
    return [names[number] for number in numbers]
