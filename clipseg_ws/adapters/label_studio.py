"""Label Studio's ML backend: names become brush masks, clicks and boxes a mask of their class.

What Label Studio sends and wants to have back, without the server, which is ``clipseg-ws serve --label-studio URL``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from clipseg_ws import __version__
from clipseg_ws.door import InputError
from clipseg_ws.door.documents import parse_xml
from clipseg_ws.output.formats.labelstudio import label_studio_task
from clipseg_ws.output.palette import ignored_name
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.structures import Vocabulary, WeakLabels, word_key
from clipseg_ws.text.matching import label_words
from clipseg_ws.values import is_number

EXAMPLE = (
    '<View><Image name="image" value="$image"/><BrushLabels name="label" toName="image"><Label value="cat"/>'
    "</BrushLabels></View>"
)
_PROMPTS = ("keypointlabels", "rectanglelabels")  # what people draw to have a mask made


class Setup(NamedTuple):
    """What matters of a labelling set-up: the labels that are classes, the names of the tags, the key of the picture in
    a task."""

    labels: tuple[str, ...]
    from_name: str
    to_name: str
    key: str

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes; a label "person, people" is the class "person" with two words."""
        words = tuple(label_words(label.replace(";", ",")) or (label,) for label in self.labels)
        return Vocabulary(tuple(mine[0] for mine in words), words)

    def place(self, label: str) -> int:
        """Index of the class that a label is. Raises InputError for one that is none."""
        keys = [word_key(own) for own in self.labels]
        if word_key(label) not in keys:
            raise InputError(f"{label!r:.60} is no brush label; allowed: {' | '.join(self.labels)}")
        return keys.index(word_key(label))


@lru_cache(maxsize=16)
def read_setup(config: str) -> Setup:
    """The set-up (XML) of a project; its first ``BrushLabels`` that belong to an ``Image`` count.

    Labels called "background" or "ignore" are no classes.

    Raises:
        InputError: no XML, no brush labels for a picture, no classes.
    """
    root = parse_xml(config)
    images = {tag.get("name"): tag.get("value", "") for tag in root.iter("Image")}
    for brush in root.iter("BrushLabels"):
        if (to_name := brush.get("toName")) in images:
            values = [label.get("value", "") for label in brush.iter("Label")]
            ignored = ignored_name(values) if ignored_name(values) in values else "ignore"
            skipped = {"", "background", ignored}
            labels = tuple(value for value in values if word_key(value) not in skipped)
            if not labels:
                raise InputError("the labelling set-up's BrushLabels have no Label that is a class", advice=EXAMPLE)
            return Setup(labels, brush.get("name", ""), str(to_name), images[to_name].lstrip("$"))
    raise InputError("the labelling set-up has no BrushLabels for an Image", advice=f"for example {EXAMPLE}")


class Backend:
    """Answers Label Studio's requests.

    Args:
        segmenter: what answers. fetch: gives the picture for what stands in a task, see ``label_studio_files``.

    Example:
        >>> backend = Backend(Segmenter("photo"), TaskPictures("http://localhost:8080", token))
        >>> backend.predict(tasks, project_config)
    """

    def __init__(self, segmenter: Segmenter, fetch: Callable[[str], Image.Image]) -> None:
        self.segmenter, self.fetch = segmenter, fetch
        self.version = f"clipseg_ws {__version__}, {segmenter.backbone.name}"
        self._question = lru_cache(maxsize=8)(segmenter.ask)

    def predict(
        self, tasks: Sequence[Mapping[str, Any]], config: str, context: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """A prediction a task: {"result": [brush masks], "score", "model_version"}.

        Args:
            tasks: of Label Studio. config: the project's set-up. context: what a person drew just now; then only the
                class of the newest drawing is answered.

        Raises:
            InputError: a set-up or task that cannot be used, a picture that cannot be read.
            ValueError: marks that clash.
        """
        setup = read_setup(config)
        question = self._question(setup.vocabulary)
        pictures = [self.fetch(_address(task, setup.key)) for task in tasks]
        if not (drawn := (context or {}).get("result")):
            return [self._prediction(result, setup) for result in self.segmenter.answer(question, pictures)]
        weak, newest = marks_of(drawn, setup, pictures[0].size)
        (result,) = self.segmenter.answer(question, pictures[:1], marks=[weak])
        return [self._prediction(result, setup, newest)]

    def _prediction(self, result: Segmentation, setup: Setup, only: int | None = None) -> dict[str, Any]:
        labels = result.labels if only is None else np.where(result.labels == only + 1, result.labels, 0)
        pairs = zip(setup.labels, result.names, strict=True)
        scores = {label: result.scores[name] for label, name in pairs if name in result.scores}
        task = label_studio_task(
            labels, setup.labels, "", scores=scores, model_version=self.version, from_name=setup.from_name,
            to_name=setup.to_name,
        )  # fmt: skip
        prediction: dict[str, Any] = task["predictions"][0]
        for region in prediction["result"]:
            region["id"] = uuid.uuid4().hex[:10]  # regions of several answers meet in one annotation
        return prediction


def marks_of(drawn: Sequence[Mapping[str, Any]], setup: Setup, size: tuple[int, int]) -> tuple[WeakLabels, int]:
    """Clicks and boxes as weak labels, and the index of the newest's class.

    Label Studio counts in per cent of the picture, whose ``size`` (width, height) is needed. A negative click marks the
    background.

    Raises InputError for another shape, a label that is no class, or corners that are no numbers.
    """
    width, height = size
    boxes: list[tuple[str, float, float, float, float]] = []
    points: list[tuple[str, float, float]] = []
    newest, names = None, setup.vocabulary.names
    for region in drawn:
        value = region.get("value") or {}
        kind = next((key for key in _PROMPTS if value.get(key)), None)
        if kind is None:
            raise InputError(f"a {str(region.get('type'))!r:.40} makes no mask; allowed: {', '.join(_PROMPTS)}")
        newest = setup.place(str(value[kind][0]))
        name = names[newest]
        x, y = _part(value, "x", width), _part(value, "y", height)
        if kind == "rectanglelabels":
            boxes.append((name, x, y, x + _part(value, "width", width), y + _part(value, "height", height)))
        elif region.get("is_positive", value.get("is_positive", 1)) in (0, "0", False):
            points.append(("background", x, y))
        else:
            points.append((name, x, y))
    if newest is None:
        raise InputError("nothing was drawn; a click or a box is needed")
    named = [*(box[0] for box in boxes), *(point[0] for point in points if point[0] != "background")]
    tags = tuple(dict.fromkeys([*named, names[newest]]))
    return WeakLabels(tags, tuple(boxes), tuple(points)), newest


def _part(value: Mapping[str, Any], key: str, side: int) -> float:
    """Per cent of a side as pixels."""
    number: Any = value.get(key)
    if not is_number(number) or not -1 <= float(number) <= 101:
        raise InputError(f"{key} is {number!r:.40}; a number from 0 to 100 (per cent) is needed")
    return min(max(float(number), 0.0), 100.0) * side / 100


def _address(task: Mapping[str, Any], key: str) -> str:
    data = task.get("data")
    address = data.get(key) if isinstance(data, Mapping) else None
    if not isinstance(address, str) or not address:
        raise InputError(f"task {task.get('id')!r:.20} has no picture under data[{key!r}]")
    return address
