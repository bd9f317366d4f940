"""From the page's controls to an ``Ask``: checks, and messages for what a visitor can mend. No gradio."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipseg_ws.embedded.nano.scenes import KINDS, Scene, draw_scene
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.structures import Support, Vocabulary
from clipseg_ws.text.lists import list_vocabularies
from clipseg_ws.web.ask import Ask
from clipseg_ws.web.names import parse_names
from clipseg_ws.web.pictures import Picture
from clipseg_ws.web.shapes import MARK_KINDS, PAINT_KINDS, paint_mask, parse_shapes

AS_METHOD = "as the method"  # the refiner that the method comes with
SCENE_SIZE = (384, 512)  # of a drawn scene, (height, width)
MOST_SUPPORTS = 12
MOST_WORDS = 120_000_000  # classes times pixels, for methods that score every word at every pixel
MOST_MAPS = 60_000_000  # classes times pixels, for keeping the maps of the stages
SLIDERS = ("presence_threshold", "alpha", "background_threshold")  # settings with a slider each


@dataclass(frozen=True)
class Controls:
    """What the page's controls say, as they are."""

    names: str
    drawing: str
    marked_only: bool
    method: str
    refine: str
    presence_threshold: float
    alpha: float
    background_threshold: float
    example_threshold: float
    stages: bool
    regions: str = AS_METHOD
    borders: bool = False


def make_ask(segmenter: Segmenter, picture: Picture | None, supports: Sequence[Support], controls: Controls) -> Ask:
    """The question that the controls stand for.

    Raises:
        ValueError: no picture, no names and no examples, unusable names or marks, too much work for a page.
    """
    if picture is None:
        raise ValueError("no picture yet: drop one, or draw a scene")
    classes, vocabulary = parse_names(controls.names)
    if classes is None and not supports:
        raise ValueError("no class names: type some, for example: house; car; person, people. Or add an example.")
    classes, known = with_labels(classes, vocabulary, supports)
    shapes = parse_shapes(controls.drawing, picture.image.size, MARK_KINDS, known)
    chosen = segmenter.variant(controls.method)
    settings = changed_settings(chosen, controls, bool(supports))
    pixels = picture.image.width * picture.image.height
    if chosen.config.decision == "words" and len(known) * pixels > MOST_WORDS:
        raise ValueError(
            f"{len(known)} classes on {picture.image.width} × {picture.image.height} pixels are too much for this page "
            f"with method {controls.method!r}; give fewer names, a smaller picture or another method"
        )
    return Ask(
        picture.image, classes, shapes, controls.marked_only, tuple(supports), controls.method, settings,
        controls.stages and len(known) * pixels <= MOST_MAPS,
    )  # fmt: skip


def with_labels(
    classes: str | None, vocabulary: Vocabulary | None, supports: Sequence[Support]
) -> tuple[str | None, tuple[str, ...]]:
    """Typed names joined by the examples' labels that are not among them: (``classes=``, all names in order).

    Without typed names the examples say alone what is looked for. Raises ValueError for a label that is not in a list
    of ``prompts/``.
    """
    labels = list(dict.fromkeys(str(support.label) for support in supports))
    if classes is None or vocabulary is None:
        return None, tuple(labels)
    words = {word.casefold() for name, listed in zip(vocabulary.names, vocabulary.synonyms, strict=True)
             for word in (name, *listed)}  # fmt: skip
    fresh = [label for label in labels if label.casefold() not in words]
    if fresh and classes in list_vocabularies():
        raise ValueError(f"the example {fresh[0]!r} is not in the list {classes!r}; type the names themselves instead")
    return "; ".join([classes, *fresh]), (*vocabulary.names, *fresh)


def changed_settings(chosen: Segmenter, controls: Controls, examples: bool = False) -> dict[str, Any]:
    """Settings that the controls set to something else than the method of ``chosen`` does, of those that it reads."""
    config, used = chosen.config, relevant(chosen)
    wanted: dict[str, Any] = {"refine": config.refine if controls.refine == AS_METHOD else controls.refine}
    wanted["regions"] = config.regions if controls.regions == AS_METHOD else controls.regions
    wanted |= {key: float(getattr(controls, key)) for key in SLIDERS}
    changed = {key: value for key, value in wanted.items() if key in used and value != getattr(config, key)}
    if examples and "example_threshold" in used and controls.example_threshold != config.fewshot.presence_threshold:
        changed["fewshot"] = {"presence_threshold": float(controls.example_threshold)}
    return changed


def relevant(chosen: Segmenter) -> set[str]:
    """Which of the page's settings the answerer of ``chosen`` reads, "example_threshold" among them."""
    reads = chosen.answerer.reads
    used = {key for key in ("refine", "regions", *SLIDERS) if key in reads}
    return used | ({"example_threshold"} if "fewshot.presence_threshold" in reads else set())


def make_support(picture: Picture | None, drawing: str, mask: NDArray[np.uint8] | None, label: str) -> Support:
    """An example from a picture and what was painted on it; a known mask [H, W] counts where nothing is painted.

    Raises:
        ValueError: no picture, no name, nothing painted.
    """
    if picture is None:
        raise ValueError("no example picture yet: drop one, or draw an example")
    label = label.strip()
    if not re.fullmatch(r"[^-;,*?\[\]/\\][^;,*?\[\]/\\]{0,59}", label):
        raise ValueError("the example needs a short plain name of the thing it shows, for example: mushroom")
    shapes = parse_shapes(drawing, picture.image.size, PAINT_KINDS)
    if mask is None or shapes:
        mask = paint_mask(shapes, picture.image.size)
    return Support(picture.image, mask, label)


def drawn_picture(seed: float | None) -> tuple[Picture, Scene]:
    """A drawn scene as a picture. Raises ValueError for a seed that is no whole number from 0 on."""
    if seed is None or seed < 0 or seed != int(seed) or seed >= 2**31:
        raise ValueError(f"the number of a scene is a whole one from 0 to {2**31 - 1}, for example 10000007")
    scene = draw_scene(int(seed), SCENE_SIZE)
    note = f"drawn scene {int(seed)}: {', '.join(scene.tags)} on {scene.background}"
    return Picture(Image.fromarray(scene.image), note, SCENE_SIZE[::-1]), scene


def drawn_support(label: str, number: int) -> tuple[Picture, NDArray[np.uint8]]:
    """Another drawn scene for every ``number`` that holds the thing ``label``, and its exact mask [H, W].

    Raises ValueError for a thing that is not drawn.
    """
    kind = label.strip().lower()
    if kind not in KINDS:
        raise ValueError(f"{label!r} cannot be drawn; what can: {', '.join(KINDS)}. Or drop a picture of it.")
    scene = draw_scene(8_000_000 + 97 * number + KINDS.index(kind), SCENE_SIZE, kinds=(kind,), max_things=2)
    note = f"drawn example of {kind}; its mask is painted in, press Add"
    return Picture(Image.fromarray(scene.image), note, SCENE_SIZE[::-1]), (scene.labels > 0).astype(np.uint8)


def slider_values(chosen: Segmenter) -> Mapping[str, tuple[float, bool]]:
    """Slider -> (the method's own value, whether the method of ``chosen`` reads it)."""
    config, used = chosen.config, relevant(chosen)
    values = {key: float(getattr(config, key)) for key in SLIDERS}
    values["example_threshold"] = config.fewshot.presence_threshold
    return {key: (value, key in used) for key, value in values.items()}
