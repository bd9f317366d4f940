"""How a head is trained: every number of the training loop with its range, read from names and values. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from clipseg_ws.door.errors import InputError, one_line
from clipseg_ws.heads import LOSSES, WEIGHTINGS
from clipseg_ws.values import checked_value, is_number, near_miss

WEIGHED = tuple(name for name, entry in LOSSES.items() if "weight" in entry.parameters)  # losses whose weight is set


def _option(
    default: Any, about: str, least: float | None = None, most: float | None = None, *, ends: str = "[]",
    choices: tuple[str, ...] = (),
) -> Any:  # fmt: skip
    """A field with its range, ``least`` to ``most`` with each end in ("[", "]") or out ("(", ")"), or ``choices``."""
    limits = {"about": about, "least": least, "most": most, "ends": ends, "choices": choices}
    return field(default=default, metadata=limits)


@dataclass(frozen=True)
class TrainConfig:
    """How a head is trained. ``TrainConfig.of`` makes one from what a user wrote."""

    steps: int = _option(1500, "optimiser steps", 1)
    batch: int = _option(16, "pictures a batch, over all processes", 1)
    accumulate: int = _option(1, "batches a step; as one batch so many times as large, with less memory", 1)
    lr: float = _option(1e-3, "highest learning rate; cosine to 0 after a linear start", 0)
    warmup: int = _option(50, "steps of the linear start", 0)
    weight_decay: float = _option(0.05, "weight decay of AdamW", 0)
    clip: float = _option(1.0, "largest norm of the gradient; 0: any", 0)
    ema: float = _option(0.99, "the saved weights are this moving average; 0: the last weights", 0, 1, ends="[)")
    precision: str = _option("float32", "inside autocast", choices=("float32", "bfloat16", "float16"))
    seed: int = _option(0, "of weights, order and split", 0)
    weighting: str = _option("hard", "how confidence counts", choices=tuple(WEIGHTINGS))
    threshold: float = _option(0.95, "of the weighting hard", 0, 1)
    power: float = _option(2.0, "of the weighting soft", 0, ends="(]")
    background: float = _option(1.0, "how much a background pixel counts; less gives classes more", 0, 1, ends="(]")
    losses: Mapping[str, float] = field(default_factory=dict)  # weights of losses by name; the others keep their own
    validate_every: int = _option(100, "steps between two looks at the validation data", 1)
    patience: int = _option(0, "looks without a better mIoU after which to stop; 0: never", 0)
    save_every: int = _option(100, "steps between two checkpoints", 1)

    def __post_init__(self) -> None:
        for item in fields(self):
            if item.metadata:
                _check(item.name, getattr(self, item.name), item.default, item.metadata)
        for name, weight in self.losses.items():
            if name not in WEIGHED:
                raise ValueError(f"loss {name!r} is unknown or has no weight; choose one of {', '.join(WEIGHED)}")
            _check(name, weight, 0.5, _WEIGHT)

    @classmethod
    def of(cls, **values: Any) -> TrainConfig:
        """From a user's names and values: fields, and losses by name with their weight (``region=0.1``).

        Raises ValueError for an unknown name (the nearest is named), a value of another type or outside its range.
        """
        return cls().given(**values)

    def given(self, **values: Any) -> TrainConfig:
        """The same with these values, read as ``of`` does."""
        mine = self.as_dict()
        for key in values:
            if key not in mine:
                raise ValueError(
                    f"training option {key!r} is unknown; {near_miss(key, mine)}choose one of {', '.join(mine)}"
                )
        own = {item.name: item for item in fields(self)}
        read = {k: _read(k, v, own[k].default, own[k].metadata) for k, v in values.items() if k not in WEIGHED}
        weights = {k: _read(k, v, 0.5, _WEIGHT) for k, v in values.items() if k in WEIGHED}
        return replace(self, **read, losses=dict(self.losses) | weights)

    def weight(self, loss: str) -> float:
        """How much a loss of the registry counts; 0: it is not computed."""
        return float(self.losses.get(loss, LOSSES[loss].parameters.get("weight", 1.0)))

    def as_dict(self) -> dict[str, Any]:
        """All values by name, the weights of the losses among them; JSON-able. ``of`` reads them again."""
        values: dict[str, Any] = {}
        for item in fields(self):
            own = {item.name: getattr(self, item.name)}
            values |= {name: self.weight(name) for name in WEIGHED} if item.name == "losses" else own
        return values

    def weighting_parameters(self) -> dict[str, float]:
        """What the weighting's function takes, from the fields of that name."""
        defaults = WEIGHTINGS[self.weighting].parameters
        return {key: getattr(self, key, default) for key, default in defaults.items()}

    @property
    def least(self) -> float:
        """Confidence from which a pixel counts."""
        return float(self.weighting_parameters().get("threshold", 0.0))


_WEIGHT = {"about": "weight of the loss", "least": 0, "most": None, "ends": "[]", "choices": ()}


def _read(key: str, value: Any, default: Any, limits: Mapping[str, Any]) -> Any:
    """``value`` as the type of ``default``, 1e3 as a whole number where one is meant."""
    try:
        return checked_value(key, value, default)
    except ValueError as error:
        raise InputError(f"{key}={one_line(repr(value), 80)}; {_needed(default, limits)}") from error


def _check(key: str, value: Any, default: Any, limits: Mapping[str, Any]) -> None:
    """Raise ValueError for a value outside its range."""
    if limits["choices"]:
        good = value in limits["choices"]
    else:
        low, high = limits["least"], limits["most"]
        good = is_number(value)
        good = good and (low is None or (value >= low if limits["ends"][0] == "[" else value > low))
        good = good and (high is None or (value <= high if limits["ends"][1] == "]" else value < high))
    if not good:
        raise InputError(
            f"{key}={one_line(repr(value), 80)}; {near_miss(value, limits['choices'])}{_needed(default, limits)}"
        )


def _needed(default: Any, limits: Mapping[str, Any]) -> str:
    """What would be right: kind, range, an example, and what the option is."""
    about = f" ({limits['about']})" if limits.get("about") else ""
    if limits["choices"]:
        return f"choose one of {', '.join(limits['choices'])}, for example {default!r}{about}"
    kind = "a whole number" if isinstance(default, int) else "a finite number"
    (left, right), low, high = limits["ends"], limits["least"], limits["most"]
    open_end = f"of at least {low}" if left == "[" else f"above {low}"
    span = open_end if high is None else f"in {left}{low}, {high}{right}"
    return f"{kind} {span} is needed, for example {default}{about}"
