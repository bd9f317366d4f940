"""FiftyOne: its labels as label maps, weak labels and examples, and a model for ``apply_model``.

``Segmentation.to_fiftyone`` goes the other way. Reading labels imports nothing of FiftyOne.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from clipseg_ws.adapters.truth import Given, class_numbers, examples, fitting, marked, painted
from clipseg_ws.fewshot.shapes import fill
from clipseg_ws.output.exchange import KINDS, fiftyone_of, needed
from clipseg_ws.output.items import Labels, Mask
from clipseg_ws.structures import IGNORE, Support, WeakLabels, word_key

if TYPE_CHECKING:
    from clipseg_ws.segmenter import Segmenter

_PARTS = ("detections", "polylines", "keypoints", "classifications")


def to_labels(
    label: Any, names: Sequence[str], size: tuple[int, int], mask_targets: Mapping[int, str] | None = None
) -> Labels:
    """[H, W] label map, i + 1 = ``names[i]``, of a ``fo.Segmentation``, ``fo.Detections`` with masks or filled
    ``fo.Polylines``; where things overlap the smaller one is in front.

    Args:
        size: (H, W) of the picture. mask_targets: value of a segmentation's mask -> name, as the data set has it; by
            default i + 1 is ``names[i]``. Values that are 0 or called "background" are background, 255 stays ignored.

    Raises:
        ValueError: a name or value that is none of ``names``, a box without a mask, a mask of another size or in
            colours.

    Example:
        >>> truth = to_labels(sample["ground_truth"], ["cat", "dog"], picture.size[::-1])
    """
    if hasattr(label, "get_mask") and not hasattr(label, "bounding_box"):
        return _renumbered(_plain_mask(label.get_mask(), size), names, mask_targets)
    return painted(_things(label, size), names, size)


def to_weak_labels(label: Any, size: tuple[int, int]) -> WeakLabels:
    """Boxes of ``fo.Detections`` and ``fo.Polylines``, points of ``fo.Keypoints``, tags of ``fo.Classifications``.

    Args:
        label: one of these, or a single one of them. size: (H, W) of the picture.

    Raises:
        ValueError: another kind of label.
    """
    height, width = size
    classes = [str(one.label) for one in _members(label) if _is_class(one)]
    spots = [
        (str(one.label), float(x) * width, float(y) * height)
        for one in _members(label) if _is_keypoint(one) for x, y in one.points if x == x and y == y
    ]  # fmt: skip
    found = marked(_things(label, size, drawn=False), spots)
    return found if not classes else WeakLabels(tuple(dict.fromkeys(classes)), found.boxes, found.points)


def to_supports(image: Any, label: Any, size: tuple[int, int]) -> list[Support]:
    """An example a class of ``fo.Detections`` with masks or filled ``fo.Polylines``; ``image`` as ``Support`` takes it.

    Raises ValueError for boxes without a mask.
    """
    return examples(image, _things(label, size))


def _members(label: Any) -> Sequence[Any]:
    """A list of labels, or the one label."""
    for part in _PARTS:
        if (members := getattr(label, part, None)) is not None:
            return list(members)
    if _is_class(label) or _is_keypoint(label) or hasattr(label, "bounding_box") or hasattr(label, "filled"):
        return [label]
    raise ValueError(f"a {type(label).__name__} is not read here; allowed: a Segmentation, or {', '.join(_PARTS)}")


def _is_class(one: Any) -> bool:
    return not any(hasattr(one, field) for field in ("bounding_box", "points")) and hasattr(one, "label")


def _is_keypoint(one: Any) -> bool:
    return hasattr(one, "points") and not hasattr(one, "filled")


def _things(label: Any, size: tuple[int, int], drawn: bool = True) -> Iterator[Given]:
    for one in _members(label):
        if hasattr(one, "bounding_box"):
            yield _of_detection(one, size, drawn)
        elif hasattr(one, "filled"):
            if drawn and not one.filled:
                raise ValueError(f"the polyline {one.label!r} is not filled, so it has no inside")
            yield Given(str(one.label), None, _filled(one.points, size))


def _of_detection(one: Any, size: tuple[int, int], drawn: bool) -> Given:
    height, width = size
    x, y, w, h = one.bounding_box
    box = (x * width, y * height, (x + w) * width, (y + h) * height)
    inside = one.get_mask() if drawn else None
    if inside is None:
        return Given(str(one.label), box)
    left, top = round(box[0]), round(box[1])
    right, bottom = max(left + 1, round(box[2])), max(top + 1, round(box[3]))
    part = Image.fromarray(np.asarray(inside).astype(bool)).resize((right - left, bottom - top))
    canvas = Image.new("1", (width, height))
    canvas.paste(part, (left, top))
    return Given(str(one.label), box, np.asarray(canvas))


def _filled(shapes: Sequence[Sequence[tuple[float, float]]], size: tuple[int, int]) -> Mask:
    inside: Mask = np.zeros(size, bool)
    for shape in shapes:
        inside |= fill([(x * size[1], y * size[0]) for x, y in shape], size)
    return inside


def _plain_mask(mask: Any, size: tuple[int, int]) -> Labels:
    if mask is None:
        raise ValueError("the segmentation has no mask")
    values = np.asarray(mask)
    if values.ndim != 2 or values.dtype.kind not in "iub":
        raise ValueError(f"its mask is {values.dtype} {list(values.shape)}; whole numbers [H, W] are read, no colours")
    fitting(values, size)
    return values.astype(np.int64)


def _renumbered(values: Labels, names: Sequence[str], targets: Mapping[int, str] | None) -> Labels:
    numbers = class_numbers(names)
    told = dict(enumerate(names, start=1)) if targets is None else {int(key): name for key, name in targets.items()}
    labels: Labels = np.zeros(values.shape, np.uint8 if len(names) < 255 else np.int32)
    for value in np.unique(values).tolist():
        name = told.get(value)
        if name is not None and word_key(name) in numbers:
            labels[values == value] = numbers[word_key(name)]
        elif value == IGNORE and name is None:
            labels[values == value] = IGNORE
        elif value != 0 and (name is None or word_key(name) != "background"):
            called = "" if name is None else f" ({name!r})"
            raise ValueError(f"the mask holds {value}{called}, which is none of the names {', '.join(names)}")
    return labels


def model(segmenter: Segmenter, classes: Any, kind: str = "segmentation") -> Any:
    """A ``fiftyone.Model`` for ``dataset.apply_model(model, "clipseg_ws")``.

    Args:
        segmenter: what answers. classes: as its call takes them. kind: as for ``Segmentation.to_fiftyone``.

    Raises:
        ValueError: another kind, classes that cannot be asked for. ImportError without fiftyone.

    Example:
        >>> look = model(Segmenter("photo"), "cat; dog")
        >>> dataset.apply_model(look, "clipseg_ws")
        >>> dataset.mask_targets["clipseg_ws"] = look.mask_targets
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}; allowed: {', '.join(KINDS)}")
    base = needed("fiftyone.core.models", "fiftyone").Model
    question = segmenter.ask(classes)

    def predict_all(_: Any, args: Sequence[Any]) -> list[Any]:
        pictures = [np.asarray(arg) for arg in args]
        return [fiftyone_of(result, kind) for result in segmenter.answer(question, pictures)]

    members = {
        "media_type": "image", "ragged_batches": False, "transforms": None, "preprocess": False,
        "mask_targets": dict(enumerate(question.vocabulary.names, start=1)),
        "predict": lambda self, arg: predict_all(self, [arg])[0], "predict_all": predict_all,
    }  # fmt: skip
    made: type = type("ClipsegWSModel", (base,), members)
    return made()
