"""The switches of matching with examples: one frozen dataclass, the field ``fewshot`` of ``Config``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from clipseg_ws.activations import layers_needed

REFITS = ("none", "prototypes", "classifier")


@dataclass(frozen=True)
class FewShotConfig:
    """Every switch of the few-shot matching. The defaults were chosen by measurement, see the README's table."""

    kinds: tuple[str, ...] = ("input",)  # features compared together; see activations/featuremaps.py
    scale: float = 20.0  # factor of the cosine (PANet)
    shots: str = "mean"  # several supports of a class: "mean" of their prototypes, or "vote" (HSNet)
    parts: int = 1  # k-means parts of a class's foreground beside its mean (PPNet); 1: the mean alone
    background_parts: int = 1  # the same for the supports' background
    prior: float = 0.3  # share of the dense nearest-cell similarity (PFENet) in the score, the rest is the prototypes'
    crossref: bool = False  # gate channels by what support and query both activate (CRCNet)
    alignment: bool = False  # weigh the supports by the alignment check (PANet) and report it
    refit: str = "prototypes"  # query-side refit: "none", "prototypes" (adaptive prototypes) or "classifier" (SROFB)
    rounds: int = 2  # how often
    sure: float = 0.92  # share of a map's range from which a cell is a seed of its class in a refit
    unsure: float = 0.7  # share of the range up to which a cell is a seed of the background
    query_share: float = 0.5  # weight of the query's own seeds in a refit
    query_background: int = 4  # background clusters taken from the query, for refit="prototypes"
    ridge: float = 1.0  # penalty of the classifier
    margin: float = 0.1  # what the classifier's answer must exceed to be the class
    sharpness: float = 5.0  # factor of the classifier's answer before the softmax
    presence_threshold: float = 0.4  # of ``FewShotMaps.presence``: below it a class counts as absent
    known: str | tuple[str, ...] | None = None  # names of other known classes that take their own pixels (BAM)
    text_weight: float = 0.7  # of the names beside the examples, where both are given; 0: the examples alone


def make_config(values: Mapping[str, Any]) -> FewShotConfig:
    """A checked configuration from keyword values.

    Raises:
        ValueError: an unknown key, or a value that is not possible; the message says what is.
    """
    known = [field.name for field in fields(FewShotConfig)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(
            f"few-shot key {unknown[0]!r} is unknown; known keys: {', '.join(known)}; for example fewshot.parts=3"
        )
    plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    config = FewShotConfig(**plain)
    check_config(config)
    return config


def check_config(config: FewShotConfig) -> None:
    """Raise ValueError for a setting that is not possible."""
    if isinstance(config.kinds, str):
        raise ValueError(f"kinds={config.kinds!r}; a list of features is needed, for example [{config.kinds}]")
    layers_needed(config.kinds)
    if not config.kinds or config.shots not in ("mean", "vote") or config.refit not in REFITS:
        raise ValueError(
            f"kinds={config.kinds}, shots={config.shots!r}, refit={config.refit!r}; at least one kind of features, "
            f"'mean' or 'vote', and one of {', '.join(REFITS)} are needed"
        )
    for key, low in (("parts", 1), ("background_parts", 1), ("rounds", 0), ("query_background", 1)):
        if getattr(config, key) < low:
            raise ValueError(f"{key}={getattr(config, key)}; a whole number of at least {low} is needed")
    for key in ("prior", "sure", "unsure", "query_share", "presence_threshold", "text_weight"):
        if not 0 <= getattr(config, key) <= 1:
            raise ValueError(f"{key}={getattr(config, key)}; a number in [0, 1] is needed, for example 0.5")
    for key in ("scale", "ridge", "sharpness"):
        if getattr(config, key) <= 0:
            raise ValueError(f"{key}={getattr(config, key)}; a positive number is needed")
