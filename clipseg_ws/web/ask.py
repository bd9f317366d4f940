"""One question to the segmenter and its answer: names, examples and marks together, maps of every stage, and why."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from clipseg_ws.config import Config
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.structures import Support, WeakLabels
from clipseg_ws.web.shapes import BACKGROUND, Shape, to_weak


@dataclass(frozen=True, eq=False)
class Ask:
    """What a visitor asks.

    Attributes:
        picture: RGB. classes: as ``Segmenter`` takes it; None where only examples say what to look for.
        shapes: points, boxes and scribbles on the picture. marked_only: only marked classes may be in the picture.
        supports: examples. method: a preset. settings: configuration fields that differ from it.
        stages: make the maps of every stage too.
    """

    picture: Image.Image
    classes: str | None = None
    shapes: tuple[Shape, ...] = ()
    marked_only: bool = False
    supports: tuple[Support, ...] = ()
    method: str = "default"
    settings: Mapping[str, Any] = field(default_factory=dict)
    stages: bool = True


@dataclass(frozen=True, eq=False)
class Stage:
    """Class maps [C, H, W] in [0, 1] after one step."""

    title: str
    maps: np.ndarray


@dataclass(frozen=True, eq=False)
class Answer:
    """What came out.

    Attributes:
        result: the segmentation. weak: the marks as they went in, None without any.
        found: what names and examples alone found, where the marks were not everything; else None.
        seconds: for the answer. stage_seconds: for the maps of the other stages.
    """

    ask: Ask
    result: Segmentation
    weak: WeakLabels | None
    found: Segmentation | None
    stages: tuple[Stage, ...]
    seconds: float
    stage_seconds: float


@dataclass(frozen=True)
class Row:
    """One line of the table: a class, its label, share of the pixels, image score, whether it is there and why."""

    label: int
    name: str
    share: float
    score: float | None
    present: bool
    why: str


def answer(segmenter: Segmenter, ask: Ask) -> Answer:
    """Run the question.

    Marks name the classes that may be there, together with those that names and examples find without the marks
    (``marked_only``: without these).

    Raises:
        ValueError: nothing to look for, or what the Segmenter raises (contradicting marks, unusable examples, ...).
    """
    if ask.classes is None and not ask.supports:
        raise ValueError("nothing to look for: type class names, for example: house; car. Or add an example")
    begin = time.perf_counter()
    chosen = segmenter.variant(ask.method, **ask.settings, keep_maps=ask.stages)
    bank = chosen.bank(list(ask.supports)) if ask.supports else None  # encoded once for all the calls below
    given: dict[str, Any] = {"classes": ask.classes, "supports": bank}
    found, weak = None, None
    if ask.shapes:
        names = chosen.asked(bank, ask.classes)[0].names
        tags = {shape.name for shape in ask.shapes} - {BACKGROUND}
        if not ask.marked_only:
            found = _one(chosen, ask.picture, given)
            tags |= {name for name, share in found.shares().items() if share and name in names}
        weak = to_weak(ask.shapes, names, ask.picture.size, [name for name in names if name in tags])
        given["weak"] = weak
    result = _one(chosen, ask.picture, given)
    seconds = time.perf_counter() - begin
    stages = _stages(chosen, ask, given, result) if ask.stages else ()
    result = replace(result, extras={}, source=None)
    return Answer(ask, result, weak, found, stages, seconds, time.perf_counter() - begin - seconds)


def _one(segmenter: Segmenter, picture: Image.Image, given: Mapping[str, Any]) -> Segmentation:
    result = segmenter(picture, **given)
    assert isinstance(result, Segmentation)
    return result


def _stages(chosen: Segmenter, ask: Ask, given: Mapping[str, Any], result: Segmentation) -> tuple[Stage, ...]:
    """The maps before affinity, before picture refinement, and at the end; the backbone's tokens are known already."""
    steps = stage_settings(chosen.config, bool(ask.supports), ask.classes is not None)
    stages = []
    for title, changed in steps:
        same = result
        if changed:
            variant = chosen.variant(ask.method, **{**ask.settings, **changed}, keep_maps=True)
            same = _one(variant, ask.picture, given)
        stages.append(Stage(title, same.extras["maps"]))
    return tuple(stages)


def stage_settings(config: Config, examples: bool, names: bool) -> list[tuple[str, dict[str, Any]]]:
    """(title, what to change so that the maps end there) of every stage of ``config``; the last changes nothing."""
    raw = {"affinity": False, "competition": 0.0, "expand_shrink": False, "refine": "none"}
    steps: list[tuple[str, dict[str, Any]]] = []
    if config.decision == "words":
        steps.append(("softmax over all words", {"refine": "none"}))
    elif examples:
        steps.append(("likeness to the examples" + (", and the names" if names else ""), raw))
    else:
        if config.activation != "dense":
            steps.append(("softmax-GradCAM", raw | {"activation": "gradcam"}))
        if config.activation != "gradcam":
            steps.append(("dense map" if config.activation == "dense" else "with the dense map", raw))
    if config.affinity and config.decision == "maps":
        steps.append(("after affinity", {"refine": "none"}))
    if config.refine != "none":
        steps.append((f"after the picture ({config.refine})", {}))
    return [*steps[:-1], (steps[-1][0], {})]


def table(answer: Answer) -> list[Row]:
    """One row a class, those in the picture first by their share, and the background at the end."""
    result, shares = answer.result, answer.result.shares()
    rows = []
    for index, name in enumerate(result.names):
        present = shares[name] > 0
        rows.append(Row(index + 1, name, shares[name], result.scores.get(name), present, _why(answer, name, present)))
    rows.sort(key=lambda row: (-row.share, row.label))
    ground = float((result.labels == 0).mean())
    return [*rows, Row(0, BACKGROUND, ground, None, ground > 0, "what no class took")]


def _why(answer: Answer, name: str, present: bool) -> str:
    """Why a class is in the answer, or is not."""
    marked = {shape.name for shape in answer.ask.shapes}
    if name in marked:
        return "you marked it"
    if answer.weak is not None and answer.weak.tags is not None and name not in answer.weak.tags:
        if answer.ask.marked_only:
            return "not looked for: only marked classes may be there"
        assert answer.found is not None
        return "not marked, and without marks: " + _by_score(answer.ask, answer.found, name, False)
    seen = answer.result if answer.found is None else answer.found
    why = _by_score(answer.ask, seen, name, present if answer.found is None else name in _occurring(seen))
    if answer.found is not None:
        why = f"without marks: {why}" if present else "found without marks, but with them it won no pixel"
    return why


def _occurring(result: Segmentation) -> set[str]:
    return {name for name, share in result.shares().items() if share}


def _by_score(ask: Ask, result: Segmentation, name: str, present: bool) -> str:
    """The rule that decided, in words: presence threshold and arg-max for maps, arg-max over words otherwise."""
    score, config = result.scores.get(name, 0.0), result.config
    if config["decision"] == "words":
        least = config["background_threshold"]
        if present:
            return f"it scores highest somewhere, and above {least:g}"
        return f"best score {score:.2f}, but nowhere the highest, or below {least:g}"
    if not config["presence"]:
        return "its map is the highest somewhere" if present else "its map is nowhere the highest"
    least = _threshold(ask, result, name)
    if score < least:
        return f"score {score:.2f} is below the threshold {least:.2g}"
    passed = f"score {score:.2f} reaches the threshold {least:.2g}"
    return passed if present else f"{passed}, but it won no pixel"


def _threshold(ask: Ask, result: Segmentation, name: str) -> float:
    """The presence threshold of a class: of names, of examples, or the weighted geometric mean of both."""
    config = result.config
    by_name, vocabulary = config["presence_threshold"], config["vocabulary"]
    words = {name.casefold(), *(w.casefold() for w in vocabulary["synonyms"][vocabulary["names"].index(name)])}
    if not words & {str(support.label).casefold() for support in ask.supports}:
        return by_name
    weight = 0.0 if ask.classes is None else config["fewshot"]["text_weight"]
    return config["fewshot"]["presence_threshold"] ** (1 - weight) * by_name**weight
