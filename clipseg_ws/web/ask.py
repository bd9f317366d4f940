"""One question to the segmenter and its answer: names, examples and marks together, maps of every stage, and why."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipseg_ws.config import STEPS, Config, flatten
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stages.question import Question
from clipseg_ws.structures import Support, WeakLabels
from clipseg_ws.text.known_names import describe_unknown
from clipseg_ws.web.shapes import BACKGROUND, Shape, to_weak


@dataclass(frozen=True, eq=False)
class Ask:
    """What a visitor asks.

    Attributes:
        picture: RGB. classes: as ``Segmenter`` takes it; None where only examples say what to look for.
        shapes: points, boxes and scribbles on the picture. marked_only: only marked classes may be in the picture.
        supports: examples. method: a key of ``METHODS``. settings: those that differ from it.
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
    maps: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Answer:
    """What came out.

    Attributes:
        result: the segmentation. weak: the marks as they went in, None without any.
        found: what names and examples alone found, where the marks were not everything; else None.
        seconds: for the answer. stage_seconds: for the maps of the other stages.
        unknown: a line about names that the model does not know; "" where it knows all, or has no list.
    """

    ask: Ask
    result: Segmentation
    weak: WeakLabels | None
    found: Segmentation | None
    stages: tuple[Stage, ...]
    seconds: float
    stage_seconds: float
    unknown: str = ""


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
    chosen = _variant(segmenter, ask, **ask.settings, keep_maps=ask.stages)
    question = chosen.ask(ask.classes, supports=list(ask.supports) or None)
    picture = chosen.prepare(ask.picture)
    found, weak = None, None
    if ask.shapes:
        names = question.vocabulary.names
        tags = {shape.name for shape in ask.shapes} - {BACKGROUND}
        if not ask.marked_only:
            found = _one(chosen, question, picture, None)
            tags |= {name for name, share in found.shares().items() if share and name in names}
        weak = to_weak(ask.shapes, names, ask.picture.size, [name for name in names if name in tags])
    result = _one(chosen, question, picture, weak)
    seconds = time.perf_counter() - begin
    stages = _stages(chosen, ask, question, picture, weak, result) if ask.stages else ()
    result = replace(result, extras={key: value for key, value in result.extras.items() if key == "regions"})
    found = None if found is None else replace(found, extras={})
    return Answer(
        ask, result, weak, found, stages, seconds, time.perf_counter() - begin - seconds, unknown_line(chosen, question)
    )  # fmt: skip


def unknown_line(segmenter: Segmenter, question: Question) -> str:
    """See ``Answer.unknown``."""
    card = segmenter.backbone.card
    if not question.unknown:
        return ""
    return describe_unknown(question.unknown, segmenter.backbone.name, len(card.known_classes))


def _variant(segmenter: Segmenter, ask: Ask, **settings: Any) -> Segmenter:
    """The visitor's method on the same weights and the same cached tokens."""
    return segmenter.variant(ask.method, **settings, cache_mb=segmenter.config.cache_mb)


def _one(chosen: Segmenter, question: Question, picture: Picture, weak: WeakLabels | None) -> Segmentation:
    return chosen.answer(question, [picture], marks=None if weak is None else [weak])[0]


def _stages(
    chosen: Segmenter, ask: Ask, question: Question, picture: Picture, weak: WeakLabels | None, result: Segmentation
) -> tuple[Stage, ...]:
    """The maps before the steps, before picture refinement, and at the end; the network's tokens are cached."""
    # the list of steps stands in place of single ones, of which some are left out here
    own = {key: value for key, value in flatten(ask.settings).items() if key.partition(".")[0] not in STEPS}
    config = chosen.config_of(result.setting)
    own |= {"steps": config.steps, "keep_maps": True}
    stages = []
    for title, changed in stage_settings(config, bool(ask.supports), ask.classes is not None):
        same = result
        if changed:
            same = _one(_variant(chosen, ask, **(own | changed)), question, picture, weak)
        stages.append(Stage(title, same.extras["maps"]))
    return tuple(stages)


def stage_settings(config: Config, examples: bool, names: bool) -> list[tuple[str, dict[str, Any]]]:
    """(title, what to change so that the maps end there) of every stage of ``config``; the last changes nothing."""
    plain = tuple(spec for spec in config.steps if STEPS[spec.name].about["when"] not in ("graph", "maps"))
    raw = {"steps": plain, "refine": "none"}
    stages: list[tuple[str, dict[str, Any]]] = []
    if config.decision == "words":
        stages.append(("softmax over all words", {"refine": "none"}))
    elif examples:
        stages.append(("likeness to the examples" + (", and the names" if names else ""), raw))
    else:
        if config.activation != "dense":
            stages.append(("softmax-GradCAM", raw | {"activation": "gradcam"}))
        if config.activation != "gradcam":
            stages.append(("dense map" if config.activation == "dense" else "with the dense map", raw))
    if config.decision == "maps" and (spread := _map_steps(config, names)):
        stages.append((f"after {' and '.join(spread)}", {"refine": "none"}))
    if config.refine != "none":
        stages.append((f"after the picture ({config.refine})", {}))
    return [*stages[:-1], (stages[-1][0], {})]


def _map_steps(config: Config, names: bool) -> list[str]:
    """Steps that change the maps, in words; those that read dense maps of names are idle where there are none."""
    running = [name for name, _ in config.run_at("maps")]
    if not names:
        running = [name for name in running if "dense_mode" not in STEPS[name].about.get("reads", ())]
    return [name.replace("_", " ") for name in running]


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
    by_name, vocabulary = float(config["presence_threshold"]), config["vocabulary"]
    words = {name.casefold(), *(w.casefold() for w in vocabulary["synonyms"][vocabulary["names"].index(name)])}
    if not words & {str(support.label).casefold() for support in ask.supports}:
        return by_name
    weight = 0.0 if ask.classes is None else config["fewshot"]["text_weight"]
    return float(config["fewshot"]["presence_threshold"] ** (1 - weight) * by_name**weight)
