"""The settings of matching with examples: one frozen dataclass, the field ``fewshot`` of ``Config``.

What may be added to the matching (votes, parts, alignment, ...) are steps, see ``config.steps``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from clipseg_ws.activations import layers_needed
from clipseg_ws.registry import Entry, Spec, parse_spec, registry
from clipseg_ws.values import checked_value, explained

_SEEDS = {"rounds": 2, "sure": 0.92, "unsure": 0.7, "query_share": 0.5}

# what mends the match, most often the query's own sure cells. rounds: how often; sure: share of a map's range from
# which a cell is a seed of its class; unsure: up to which it is one of the background; query_share: weight of the
# query's own seeds
REFITS = registry(
    Entry("none", "the supports' prototypes alone"),
    Entry(
        "supports", "a ridge classifier on a class's supports, from so many of them on; fewer: their prototypes",
        "clipseg_ws.activations.ridge:fit_ridge", {"ridge": 4.0, "margin": 0.0, "sharpness": 5.0, "shots": 2},
        "Bertinetto et al., ICLR 2019, arXiv 1805.08136 (R2-D2)",
    ),
    Entry(
        "prototypes", "prototypes of the query's own seeds, the background's in clusters",
        "clipseg_ws.activations.online:query_prototypes", _SEEDS | {"query_background": 4},
        "Chen et al., IEEE TMM 2022, arXiv 2111.12263 (APANet)",
    ),
    Entry(
        "classifier", "a ridge classifier on supports and the query's seeds: its penalty, margin and sharpness",
        "clipseg_ws.activations.online:classify_online",
        _SEEDS | {"ridge": 1.0, "margin": 0.1, "sharpness": 5.0}, "Mei et al., arXiv 2212.01131 (SROFB)",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class FewShotConfig:
    """Every setting of the few-shot matching. What suits a model better stands in its card.

    Raises:
        ValueError: a value that is not possible; says what is.
    """

    kinds: tuple[str, ...] = ("input",)  # features compared together; see activations/featuremaps.py
    scale: float = 20.0  # factor of the cosine (PANet)
    prior: float = 0.0  # share of the dense nearest-cell similarity (PFENet) in the score, the rest is the prototypes'
    refit: Spec | str = "none"  # query-side refit, of ``REFITS``, with parameters as in "prototypes(rounds=1)"
    presence_threshold: float = 0.4  # of ``FewShotMaps.presence``: below it a class counts as absent
    text_weight: float = 0.7  # of the names beside the examples, where both are given; 0: the examples alone
    calibrate: bool = False  # whether and how much a name counts is decided on its examples, where there are several
    steps: tuple[Spec, ...] = field(default=(), repr=False)  # the method's steps of kind "matching", put in by it

    def __post_init__(self) -> None:
        try:
            self._check()
        except ValueError as error:
            raise explained(error, FewShotConfig) from error

    def _check(self) -> None:
        listed = isinstance(self.kinds, (list, tuple)) and all(isinstance(kind, str) for kind in self.kinds)
        if not listed or not self.kinds:
            raise ValueError(f"kinds={self.kinds!r}; a list of features is needed, for example [input]")
        layers_needed(self.kinds)
        object.__setattr__(self, "kinds", tuple(self.kinds))
        object.__setattr__(self, "refit", parse_spec(str(self.refit), REFITS, "refit"))
        for key in ("scale", "prior", "presence_threshold", "text_weight", "calibrate"):
            object.__setattr__(self, key, checked_value(key, getattr(self, key), getattr(FewShotConfig, key)))
        for key in ("prior", "presence_threshold", "text_weight"):
            if not 0 <= getattr(self, key) <= 1:
                raise ValueError(f"{key}={getattr(self, key)}; a number in [0, 1] is needed, for example 0.5")
        if self.scale <= 0:
            raise ValueError(f"scale={self.scale}; a positive number is needed, for example 20")
        _check_refit(self.refitting())

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; ``make_config`` takes it back."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "steps"}
        return values | {"kinds": list(self.kinds), "refit": str(self.refit)}

    def refitting(self) -> dict[str, Any]:
        """All parameters of the refit."""
        return parse_spec(str(self.refit), REFITS, "refit").resolved(REFITS)

    def step(self, name: str) -> Spec | None:
        """A step of the matching, None where it does not run."""
        return next((spec for spec in self.steps if spec.name == name), None)


def make_config(values: Mapping[str, Any]) -> FewShotConfig:
    """A configuration from keyword values.

    Raises:
        ValueError: an unknown key, or a value that is not possible; the message says what is.
    """
    known = [f.name for f in fields(FewShotConfig) if f.name != "steps"]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(
            f"few-shot key {unknown[0]!r} is unknown; known keys: {', '.join(known)}; for example fewshot.prior=0"
        )
    plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    return FewShotConfig(**plain)


def _check_refit(parameters: Mapping[str, Any]) -> None:
    for key in ("sure", "unsure", "query_share"):
        if not 0 <= parameters.get(key, 0.5) <= 1:
            raise ValueError(f"refit: {key}={parameters[key]}; a number in [0, 1] is needed, for example 0.5")
    for key, low in (("rounds", 0), ("query_background", 1), ("shots", 1)):
        if parameters.get(key, 1) < low:
            raise ValueError(f"refit: {key}={parameters[key]}; a whole number of at least {low} is needed")
    for key in ("ridge", "sharpness"):
        if parameters.get(key, 1.0) <= 0:
            raise ValueError(f"refit: {key}={parameters[key]}; a positive number is needed")
