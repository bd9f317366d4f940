"""The configuration of a segmentation: one frozen dataclass, and what its values may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from clipseg_ws.activations import DENSE_MODES
from clipseg_ws.config.steps import STEPS
from clipseg_ws.fewshot.options import FewShotConfig
from clipseg_ws.refine import REFINERS
from clipseg_ws.regions import LABELLERS, REGIONS
from clipseg_ws.registry import Spec, parse_spec, parse_specs
from clipseg_ws.values import checked_value, explained

BACKGROUND_RULES = ("power", "constant", "prompts")


@dataclass(frozen=True)
class Config:
    """Every setting of the pipeline, in the order in which the data meets it.

    What a step is told stands with the step (``config.steps.STEPS``), what a refiner is told with the refiner.

    Raises:
        ValueError: a value of another type, out of its range or not among the choices; says what is allowed.
    """

    method: str = "default"  # the method this configuration started from
    # picture
    short_side: int | None = None  # resize the short side to this before rounding up to patches; None: original size
    long_side: int | None = None  # upper limit of the long side, in pixels
    max_patches: int = 2304  # larger pictures are shrunk to this many patches (48 x 48); memory grows with the square
    position_interpolation: str = "bicubic"  # "bicubic", "bilinear" (CLIP-ES), "bicubic-offset" (dense family)
    # text
    templates: str | tuple[str, ...] | None = None  # a list's name, one template or several; None: the class file's
    background: str | tuple[str, ...] | None = (
        None  # competing words, "auto", "none"; None: the class file's, else voc-clip-es
    )
    fusion: str | None = None  # synonyms: "string" (inside one prompt) or "max" (best word); None: the class file's own
    logit_scale: float | None = None  # factor of the cosine before a softmax; None: the model's own
    # presence (zero setting only)
    presence: bool = True  # drop the names that are not in the picture before the affinity
    presence_threshold: float = 0.25  # score from which a name counts as present
    # maps
    activation: str = "gradcam"  # "gradcam", "dense" or "fused" (product of both)
    dense_mode: str = "maskclip"  # attention of the last block for dense maps: ``activations.DENSE_MODES``
    pool: str = "patch"  # image embedding of the CAM: "patch" (mean of the patches) or "cls"
    steps: tuple[Spec, ...] = (Spec("affinity"),)  # what runs besides: ``config.steps.STEPS``
    attention_blocks: int = 8  # last blocks whose attention is averaged
    decision: str = "maps"  # "maps" (one a class, background rule) or "words" (softmax over all words at every pixel)
    window: int = 0  # side of the sliding window in pixels, for decision "words"; 0: the whole picture at once
    stride: int = 0  # step of the window; 0: half of it
    pad_windows: bool = False  # pad windows to whole patches (ClearCLIP) instead of cutting the rest
    # refinement on the picture
    # with marks, keep_maps or instances every pixel is looked at, whatever stands in max_pixels
    max_pixels: int = 1_048_576  # larger pictures are refined and decided at so many pixels, then enlarged; 0: no limit
    regions: str = "none"  # what cuts the picture into regions, for the steps that read them: ``regions.REGIONS``
    labeller: str = "none"  # what names things beside CLIP: ``regions.LABELLERS``
    refine: str = "none"  # a refiner, with parameters as in "pamr(iterations=5)": ``refine.REFINERS``
    # decision
    background_rule: str = "power"  # "power", "constant" or "prompts"
    alpha: float = 1.0  # exponent of the power rule
    background_threshold: float = 0.4  # the constant rule's score; with "words" the least probability of a class
    area_threshold: float = 0.0  # with "words": share of the foreground below which a class is dropped (SCLIP)
    min_area: float = 0.0  # share of the picture below which a class is dropped
    # matching with examples (few setting); single settings as "fewshot.prior=0"
    fewshot: FewShotConfig = field(default_factory=FewShotConfig)
    head_affinity: float = 0.5  # with a head: share of its maps spread along the attention, 0: none
    head_presence: float = 0.5  # with a head: a class whose probability reaches this nowhere is not there
    # result
    instances: bool = False  # put an instance map [H, W] int32 (0 none) into Segmentation.extras["instances"]
    keep_maps: bool = False  # put the class maps [C, H, W] into Segmentation.extras["maps"]
    batch_size: int = 8  # pictures of one size that go through the backbone together
    compile: bool = False  # torch.compile the blocks: the first picture of a size takes a minute; needs a C++ compiler
    cache_mb: int = 0  # megabytes of tokens that are kept for the next calls (variants share them)

    def __post_init__(self) -> None:
        try:
            checked = _checked(self)
        except ValueError as error:
            raise explained(error, Config) from error
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def step(self, name: str) -> dict[str, Any] | None:
        """All parameters of a step, None where it does not run."""
        found = next((spec for spec in self.steps if spec.name == name), None)
        return None if found is None else found.resolved(STEPS)

    def run_at(self, when: str) -> list[tuple[str, dict[str, Any]]]:
        """(name, parameters) of the steps of one kind, in their order."""
        return [(s.name, s.resolved(STEPS)) for s in self.steps if STEPS[s.name].about["when"] == when]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; ``resolve`` takes it back."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain |= {"steps": [str(spec) for spec in self.steps], "fewshot": self.fewshot.as_dict()}
        return {key: _plain(value) for key, value in plain.items()}


def _plain(value: Any) -> Any:
    """Tuples as lists, inside dictionaries too."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "activation": ("gradcam", "dense", "fused"),
    "background_rule": BACKGROUND_RULES,
    "dense_mode": tuple(DENSE_MODES),
    "decision": ("maps", "words"),
    "position_interpolation": ("bicubic", "bilinear", "bicubic-offset"),
    "pool": ("patch", "cls"),
}
_EXAMPLES = {"short_side": 336, "long_side": 2048, "fusion": "max", "logit_scale": 100.0}  # of what may be None
_LEAST = dict.fromkeys(("attention_blocks", "cache_mb", "window", "stride", "max_pixels"), 0)
_LEAST |= dict.fromkeys(("batch_size", "max_patches", "short_side", "long_side"), 1)
_MOST = {"batch_size": 65_536, "max_patches": 1_000_000, "attention_blocks": 1_000, "cache_mb": 10_000_000}
_MOST |= dict.fromkeys(("short_side", "long_side", "window", "stride"), 65_535)
_SHARES = ("presence_threshold", "background_threshold", "area_threshold", "min_area", "head_presence", "head_affinity")


def _checked(config: Config) -> dict[str, Any]:
    """The values in their types. Raises ValueError as ``Config`` says."""
    values = {f.name: getattr(config, f.name) for f in fields(config)}
    for f in fields(config):
        if f.name in ("templates", "background", "fewshot", "steps", "method"):
            continue
        default = _EXAMPLES.get(f.name, f.default)
        if not (values[f.name] is None and f.name in _EXAMPLES):
            values[f.name] = checked_value(f.name, values[f.name], default)
    for key in ("templates", "background"):
        _check_words(key, values[key])
    if values["fusion"] not in (None, "string", "max"):
        raise ValueError(f"fusion={values['fusion']!r} is unknown; choose one of string, max, for example 'max'")
    for key, choices in _CHOICES.items():
        if values[key] not in choices:
            raise ValueError(
                f"{key}={values[key]!r} is unknown; choose one of {', '.join(choices)}, for example {choices[0]!r}"
            )
    for key, low in _LEAST.items():
        if values[key] is not None and values[key] < low:
            raise ValueError(f"{key}={values[key]}; a whole number of at least {low} is needed")
        if values[key] is not None and values[key] > (most := _MOST.get(key, 10**9)):
            raise ValueError(f"{key}={values[key]}; at most {most} is taken")
    _check_numbers(values)
    values["refine"] = str(parse_spec(values["refine"], REFINERS, "refiner"))
    values["regions"] = str(parse_spec(values["regions"], REGIONS, "region source"))
    values["labeller"] = str(parse_spec(values["labeller"], LABELLERS, "labeller"))
    values["steps"] = steps = _ordered(parse_specs(values["steps"], STEPS, "step"))
    matching = tuple(spec for spec in steps if STEPS[spec.name].about["when"] == "matching")
    values["fewshot"] = replace(values["fewshot"], steps=matching)
    _check_steps(values)
    _check_regions(values)
    return values


def _check_numbers(values: Mapping[str, Any]) -> None:
    for key in _SHARES:
        if not 0 <= values[key] <= 1:
            raise ValueError(f"{key}={values[key]}; a number in [0, 1] is needed, for example 0.4")
    if values["min_area"] == 1:
        raise ValueError("min_area=1; a share below 1 is needed, for example 0.005")
    if values["alpha"] <= 0:
        raise ValueError(f"alpha={values['alpha']}; a positive number is needed, for example 2")
    if values["logit_scale"] is not None and values["logit_scale"] <= 0:
        raise ValueError(f"logit_scale={values['logit_scale']}; a positive number is needed, for example 100")


def _check_regions(values: Mapping[str, Any]) -> None:
    """Raise ValueError where regions are read and there are none, or are there and not read."""
    readers = [f"the step {s.name}" for s in values["steps"] if STEPS[s.name].about.get("regions")]
    if DENSE_MODES[values["dense_mode"]].about.get("regions"):
        readers.append(f"dense_mode={values['dense_mode']!r}")
    if readers and values["regions"] == "none":
        raise ValueError(f"{readers[0]} reads regions and there are none; set for example regions='grow' (--regions)")
    if not readers and values["regions"] != "none":
        raise ValueError(f"regions={values['regions']!r}: nothing that runs reads them; add votes=true")


def _check_words(key: str, value: Any) -> None:
    """Raise ValueError for what is neither None nor text nor a sequence of texts."""
    listed = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
    for item in listed:
        if not isinstance(item, str):
            raise ValueError(f"{key}={value!r}; words are needed, a list's name or several in quotes")


def _ordered(steps: tuple[Spec, ...]) -> tuple[Spec, ...]:
    """In the order of the table, which is the order in which they run."""
    order = list(STEPS)
    return tuple(sorted(steps, key=lambda spec: order.index(spec.name)))


# step.parameter -> (lowest, highest, both allowed?) or the choices
_RANGES: Mapping[str, tuple[Any, ...]] = {
    "outliers.method": ("lof", "activation"),
    "correlation.kind": ("cross", "intra"),
    "layer_fusion.kind": ("early", "two-pass"),
    "votes.by": ("mean", "majority"),
    "region_match.kind": ("matcher", "gf-sam"),
    "structure.kind": ("similarity", "both"),
}
_INSIDE = {  # open at 0 where nothing would happen, open at 1 where nothing would be left
    "outliers.share": (0, 1, "()"), "correlation.weight": (0, 1, "(]"), "suppression.share": (0, 1, "()"),
    "affinity.threshold": (0, 1, "[]"), "cross_image.weight": (0, 1, "(]"), "saliency.weight": (0, 1, "(]"),
    "competition.weight": (0, 1, "(]"), "structure.blocks": (1, 99, "[]"), "looks.doubt": (0, 99, "[]"),
    "region_affinity.weight": (0, 1, "(]"), "region_affinity.sharpness": (0, 1000, "(]"),
    "affinity.sinkhorn_iterations": (0, 99, "[]"), "parts.count": (1, 99, "[]"), "parts.background": (1, 99, "[]"),
}  # fmt: skip


def _check_steps(values: Mapping[str, Any]) -> None:
    """Parameters in their ranges, and steps that do not go together."""
    given = {spec.name: spec.resolved(STEPS) for spec in values["steps"]}
    for name, parameters in given.items():
        for key, value in parameters.items():
            check_parameter(f"{name}.{key}", value)
    if "looks" in given and not all(0.25 <= s <= 4 for s in given["looks"]["scales"] or (0,)):
        raise ValueError(f"looks.scales={given['looks']['scales']}; numbers from 0.25 to 4 are needed, e.g. [1, 1.5]")
    own = "pairs" not in DENSE_MODES[values["dense_mode"]].about
    if own and {"correlation", "layer_fusion"} & set(given):
        raise ValueError(
            f"dense_mode={values['dense_mode']!r} has its own attention; leave out the steps correlation and "
            "layer_fusion"
        )
    if given.get("layer_fusion", {}).get("kind") == "early":
        if not values["attention_blocks"]:
            raise ValueError(
                "layer_fusion='early' reads the blocks' mean attention; set attention_blocks, for example 12"
            )
        if "correlation" in given:
            raise ValueError("layer_fusion='early' has its own attention; leave out the step correlation")
    if "structure" in given and not {"affinity", "saliency"} & set(given):
        raise ValueError("the step structure is read by affinity and saliency, and none of them runs; add affinity")


def check_parameter(key: str, value: Any) -> None:
    """Raise ValueError where a step's parameter, "affinity.threshold", is out of its range."""
    if key in _RANGES and value not in _RANGES[key]:
        raise ValueError(f"{key}={value!r} is unknown; choose one of {', '.join(_RANGES[key])}")
    if key in _INSIDE:
        low, high, ends = _INSIDE[key]
        above = value >= low if ends[0] == "[" else value > low
        below = value <= high if ends[1] == "]" else value < high
        if not (above and below):
            raise ValueError(f"{key}={value}; a number in {ends[0]}{low}, {high}{ends[1]} is needed")
