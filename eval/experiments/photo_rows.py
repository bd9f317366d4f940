"""What is measured on photos: one ``Row`` a line of ``photos.csv``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from clipseg_ws.config import STEPS, Config
from clipseg_ws.structures import Vocabulary, word_key

MANY = 100  # names of the row "zero-100"
SHOTS = {1: "one-shot", 5: "five-shot"}
EXAMPLES_ALONE: dict[str, Any] = {"fewshot.text_weight": 0.0}
NAMES_ALONE = {"fewshot.text_weight": 1.0}
ALONE = ("few-1",)  # a model has one advice for any number of examples
NAMED = ("few-1-name", "few-1")
SCALES = {"looks": {"scales": [0.7, 1.0, 1.4], "flip": True}}

# asked beside VOC's 20: things of other kinds, none of them a kind or a part of one of VOC's; ImageNet's own words
OTHERS = (
    "zebra", "lion", "tiger", "leopard", "cheetah", "brown bear", "giant panda", "gorilla", "chimpanzee", "koala",
    "hippopotamus", "African elephant", "Arabian camel", "bison", "warthog", "beaver", "otter", "skunk", "porcupine",
    "fox squirrel", "hamster", "guinea pig", "wombat", "armadillo", "red fox", "hyena", "tree frog", "box turtle",
    "common iguana", "African crocodile", "scorpion", "tarantula", "centipede", "snail", "slug", "jellyfish",
    "starfish", "sea urchin", "American lobster", "Dungeness crab", "hermit crab", "goldfish", "great white shark",
    "stingray", "bee", "ladybug", "dragonfly", "grasshopper", "mushroom", "banana", "pineapple", "strawberry", "lemon",
    "orange", "pomegranate", "broccoli", "cauliflower", "bell pepper", "artichoke", "acorn", "pizza", "pretzel",
    "cheeseburger", "burrito", "acoustic guitar", "electric guitar", "violin", "cello", "harp", "accordion", "drum",
    "grand piano", "saxophone", "trombone", "umbrella", "backpack", "balloon", "parachute", "bathtub", "bucket",
    "candle", "wall clock", "hourglass", "computer keyboard", "computer mouse", "envelope", "fountain", "hammer",
    "screwdriver", "lighthouse", "castle", "mailbox", "microphone", "microwave", "refrigerator", "washing machine",
    "toaster", "teapot", "frying pan", "vase", "volcano", "traffic light", "soccer ball", "basketball",
    "golf ball", "volleyball", "dumbbell", "binoculars", "loudspeaker", "sewing machine", "typewriter keyboard",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        key: what ``--rows`` chooses by. what: in words. setting: of the evaluation ("weak", "few-1", ...).
        method, settings: of the Segmenter, beside the model's own advice: what the row is about. base: rows whose
            chosen settings hold here too, of the first that has any. names: how many are asked; 0: those of the
            setting. presence: which names are found is measured, not where. stem: examples are compared by the model's
            convolutional stem.
        chosen: further settings, see ``with_chosen``.
    """

    key: str
    what: str
    setting: str
    method: str = "default"
    settings: Mapping[str, Any] = field(default_factory=dict)
    base: tuple[str, ...] = ()
    names: int = 0
    presence: bool = False
    stem: bool = False
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def given(self) -> dict[str, Any]:
        """All settings that the Segmenter gets; ``settings`` win, what is chosen for a step they switch off goes."""
        off = [key for key, value in self.settings.items() if value is False]
        if self.settings.get("steps") == "none":
            off += STEPS
        kept = {key: value for key, value in self.chosen.items() if key.partition(".")[0] not in off}
        return kept | dict(self.settings)

    def with_chosen(self, chosen: Mapping[str, Mapping[str, Any]]) -> Row:
        """The same with settings chosen by row key: its own, else those of ``base``."""
        found = next((key for key in (self.key, *self.base) if key in chosen), None)
        return self if found is None else replace(self, chosen=dict(chosen[found]))


def all_rows(resolve: Callable[[Row], Config]) -> list[Row]:
    """Every row, the most important first; ``resolve``: the configuration in which a row is answered."""
    plain: dict[str, Any] = {"refine": "none", "looks": False}
    weak, zero = Row("weak", "default, tags", "weak"), Row("zero", "default, 20 names", "zero")
    refiner = resolve(weak).refine
    refiner = "par(max_side=250)" if refiner == "none" else refiner
    return [
        weak,
        zero,
        Row("presence", "presence, 20 names", "zero", settings={"refine": "none"}, base=("zero",), presence=True),
        Row("cam", "softmax-GradCAM, tags", "weak", "cam", plain),
        Row("cam-affinity", "+ class-aware affinity", "weak", "cam", plain | {"affinity": True}, ("cam",)),
        Row("cam-picture", "+ picture refinement", "weak", "cam",
            plain | {"affinity": True, "refine": refiner}, ("cam-affinity", "cam")),
        Row("dense", "dense map, tags, no picture refinement", "weak",
            settings={"activation": "dense", "steps": "none", "refine": "none"}),
        Row("boxes", "boxes from masks", "boxes", base=("weak",)),
        Row("points", "points from masks", "points", base=("weak",)),
        *_few(),
        Row("zero-100", f"default, {MANY} names", "zero", base=("zero",), names=MANY),
        *_stem(),
        *_weak_few(),
        Row("weak-scales", "several scales and mirrored, tags", "weak", settings=SCALES, base=("weak",)),
        Row("zero-scales", "several scales and mirrored, 20 names", "zero", settings=SCALES, base=("zero",)),
        *left_out(weak, resolve(weak)),
        *left_out(zero, resolve(zero)),
    ]  # fmt: skip


def _few() -> list[Row]:
    """Episodes of background and one class: the examples alone, and with the name."""
    rows = []
    for shots, said in SHOTS.items():
        key = f"few-{shots}"
        rows.append(Row(key, said, key, settings=EXAMPLES_ALONE, base=ALONE))
        rows.append(Row(f"{key}-name", f"{said} and the name", key, base=NAMED))
    return rows


def _stem() -> list[Row]:
    """The same episodes by the features of a convolutional stem, as systems were published on such: untrained."""
    rows = []
    for shots, said in SHOTS.items():
        key = f"few-{shots}"
        said = f"{said}, stem features"
        bare = EXAMPLES_ALONE | {"fewshot.refit": "none", "fewshot.prior": 1.0, "steps": "none"}
        rows += [
            Row(f"{key}-stem", f"{said}, default", key,
                settings=EXAMPLES_ALONE | {"affinity": False, "fewshot.kinds": ["input"]}, stem=True),
            Row(f"{key}-stem-panet", f"{said}, masked average pooling (PANet)", key, "prototypes",
                {"fewshot.kinds": ["input"]}, stem=True),
            Row(f"{key}-stem-pfenet", f"{said}, nearest cell at stride 32 (PFENet's prior)", key,
                settings=bare | {"fewshot.kinds": ["layer:2"]}, stem=True),
            Row(f"{key}-stem-hsnet", f"{said}, nearest cells at three strides (HSNet's correlations)", key,
                settings=bare | {"fewshot.kinds": ["layer:0", "layer:1", "layer:2"]}, stem=True),
        ]  # fmt: skip
    return rows


def _weak_few() -> list[Row]:
    """Examples of which the name alone is known."""
    rows = []
    for shots in SHOTS:
        key = f"weak-few-{shots}"
        told = f"{shots} example{'s' * (shots > 1)} without masks"
        rows += [
            Row(key, f"{told}, and the name", key, base=NAMED),
            Row(f"{key}-supports", f"{told}, alone", key, settings=EXAMPLES_ALONE, base=ALONE),
            Row(f"{key}-name", "the name alone, same episodes", key, settings=NAMES_ALONE, base=NAMED),
        ]
    return rows


def left_out(row: Row, config: Config) -> list[Row]:
    """A row without each thing that it does: what each is worth."""
    changes: dict[str, dict[str, Any]] = {}
    if row.setting == "zero" and config.presence:
        changes["presence"] = {"presence": False}
    changes |= {spec.name: {spec.name: False} for spec in config.steps if STEPS[spec.name].about["when"] != "matching"}
    if config.refine != "none":
        changes["picture refinement"] = {"refine": "none"}
    if config.background_rule == "prompts":
        changes["background by its words"] = {"background_rule": "power"}
    if config.activation == "fused":
        changes |= {"dense map": {"activation": "gradcam"}, "GradCAM": {"activation": "dense"}}
    return [
        Row(f"{row.key}-without-{name.replace(' ', '-').lower()}", f"{row.what}, without {name}", row.setting,
            row.method, settings, (row.key,))
        for name, settings in changes.items()
    ]  # fmt: skip


def chosen_rows(rows: Sequence[Row], patterns: Iterable[str]) -> list[Row]:
    """Those whose keys fit a pattern ("few-*"), all without one. Raises ValueError where a pattern fits none."""
    patterns = list(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(row.key, pattern) for row in rows):
            raise ValueError(f"--rows {pattern!r} is no row; the rows are {', '.join(row.key for row in rows)}")
    return [row for row in rows if not patterns or any(fnmatchcase(row.key, pattern) for pattern in patterns)]


def more_names(vocabulary: Vocabulary, known: Iterable[str], count: int = MANY) -> Vocabulary:
    """``vocabulary`` and other names that the model knows, up to ``count`` in all; the same ones every time.

    ``known``: of a model that knows only certain things; empty: anything. ``OTHERS`` first, in their order; where the
    model knows too few of them, further ones of its own in an order by hash. Fewer where there are no more.
    """
    listed = {word_key(name): name for name in known}
    others = [name for name in OTHERS if not listed or word_key(name) in listed]
    used = set(vocabulary.index()) | {word_key(name) for name in others}
    rest = sorted((key for key in listed if key not in used), key=lambda key: hashlib.sha256(key.encode()).digest())
    names = [*others, *(listed[key] for key in rest)][: max(0, count - len(vocabulary.names))]
    return replace(
        vocabulary,
        names=(*vocabulary.names, *names),
        synonyms=(*vocabulary.synonyms, *((name,) for name in names)),
        prompts=(*vocabulary.prompts, *(() for _ in names)) if vocabulary.prompts else (),
    )
