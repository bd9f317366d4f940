"""How settings combine: the method's own, the model's advice, the user's; every key is read or refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from clipseg_ws.activations import DENSE_MODES
from clipseg_ws.config.fields import Config
from clipseg_ws.config.methods import METHODS
from clipseg_ws.config.steps import STEPS
from clipseg_ws.fewshot.options import FewShotConfig, make_config
from clipseg_ws.registry import Entry, Spec, checked_spec, find, parse_specs
from clipseg_ws.values import read_value

DEFAULT_METHOD = "default"
SETTINGS = ("zero", "weak", "few")  # what a model may recommend settings for
_FEWSHOT = "fewshot"
_NOTHING = Entry("", "")
_SPECS = ("steps", "refine", "regions", "labeller")  # written as NAME(parameter=value), no YAML
_OFF: tuple[Any, ...] = (False, None, "none", 0, ())


def resolve(
    method: str, given: Mapping[str, Any], recommended: Mapping[str, Any] | None = None, setting: str | None = None
) -> Config:
    """Defaults, then the method's settings, then what the model recommends, then what was given.

    A step is switched by its name: ``saliency=true`` adds it, ``affinity=false`` takes it away, ``competition=0.3``
    adds it with its first parameter, ``affinity.threshold=0.7`` sets a parameter of a step that runs, and ``steps``
    replaces the whole list.

    Args:
        method: a key of ``METHODS``. given: keyword arguments of the user.
        recommended: ``backbone.recommended``, checked by ``advice.check_advice``: settings for whatever is asked; under
            "methods" those for single methods, which go before them; under "settings" those for "zero", "weak" and
            "few", which go before both where the method is "default". There "method" names another one that
            "default" stands for.
        setting: "zero", "weak" or "few"; None where it does not matter.

    Raises:
        ValueError: an unknown method, key, step or choice; a parameter of a step that does not run; says what is
            allowed.
    """
    advice = dict(recommended or {})
    of_methods, of_settings = advice.pop("methods", {}), advice.pop("settings", {})
    of_setting = dict(of_settings.get(setting, {})) if method == DEFAULT_METHOD else {}
    method = of_setting.pop("method", method)
    merged = _Merged()
    for layer in (find(METHODS, method, "method").parameters, advice, of_methods.get(method, {}), of_setting):
        merged.add(layer, strict=False)
    merged.add(given, strict=True)
    merged.vote(given)
    inner = {k.removeprefix(f"{_FEWSHOT}."): v for k, v in merged.plain.items() if k.startswith(f"{_FEWSHOT}.")}
    plain = {key: value for key, value in merged.plain.items() if not key.startswith(f"{_FEWSHOT}.")}
    plain |= {"method": method, "steps": merged.specs(), _FEWSHOT: make_config(inner)}
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in plain.items()}
    return Config(**values)


@dataclass
class _Merged:
    """Settings so far: plain fields by name, and the steps that run with the parameters that were set for them.

    ``advised`` are parameters for steps that do not run (yet): they count where a later layer adds the step.
    """

    plain: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = field(default_factory=lambda: {s.name: {} for s in Config.steps})
    advised: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, settings: Mapping[str, Any], strict: bool) -> None:
        """One more layer, whose values win. ``strict``: a parameter of a step that does not run is an error."""
        flat = flatten(settings)
        if "steps" in flat:
            listed = parse_specs(flat.pop("steps"), STEPS, "step")
            self.steps = {spec.name: dict(spec.parameters) for spec in listed}
        switches = {key: flat.pop(key) for key in list(flat) if key in STEPS}
        for name, value in switches.items():
            self._switch(name, value)
        for key in [key for key in flat if key.partition(".")[0] in STEPS]:
            self._set(key, flat.pop(key), strict)
        _check_known(flat)
        self.plain |= flat

    def vote(self, given: Mapping[str, Any]) -> None:
        """Regions that the user gives vote where nothing else reads them and nobody said that they should not."""
        read = any(STEPS[name].about.get("regions") for name in self.steps)
        read = read or bool(DENSE_MODES.get(str(self.plain.get("dense_mode")), _NOTHING).about.get("regions"))
        if str(given.get("regions") or "none") != "none" and not read and not {"votes", "steps"} & set(given):
            self.steps["votes"] = {}

    def specs(self) -> tuple[Spec, ...]:
        """The steps with all their parameters."""
        made = []
        for name, parameters in self.steps.items():
            every = dict(STEPS[name].parameters) | self.advised.get(name, {}) | parameters
            made.append(checked_spec(Spec(name, tuple(every.items())), STEPS, "step"))
        return tuple(made)

    def _switch(self, name: str, value: Any) -> None:
        parameters = STEPS[name].parameters
        if isinstance(value, Mapping):
            self.steps[name] = dict(value)
        elif any(value is off or (value == off and type(value) is type(off)) for off in _OFF) or value == 0.0:
            self.steps.pop(name, None)
        elif value is True:
            self.steps.setdefault(name, {})
        elif parameters:
            self.steps.setdefault(name, {})[next(iter(parameters))] = value
        else:
            raise ValueError(f"{name}={value!r}: this step has no parameters; write {name}=true or {name}=false")

    def _set(self, key: str, value: Any, strict: bool) -> None:
        name, _, parameter = key.partition(".")
        if parameter not in STEPS[name].parameters:
            known = ", ".join(f"{name}.{p}" for p in STEPS[name].parameters) or "none"
            raise ValueError(f"the step {name} has no parameter {parameter!r}; its parameters: {known}")
        if name in self.steps:
            self.steps[name][parameter] = value
        elif strict:
            raise ValueError(
                f"{key}={value!r}: the step {name} does not run here ({', '.join(self.steps) or 'no step'} does); "
                f"add it with {name}=true"
            )
        else:
            self.advised.setdefault(name, {})[parameter] = value


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """``fewshot`` given as a mapping or a ``FewShotConfig`` becomes keys "fewshot.NAME", so that settings merge."""
    flat = dict(settings)
    inner = flat.pop(_FEWSHOT, None) or {}
    if not isinstance(inner, (Mapping, FewShotConfig)):
        raise ValueError(f"fewshot={inner!r}; a mapping is needed, for example fewshot={{'prior': 0.0}}")
    values = inner.as_dict() if isinstance(inner, FewShotConfig) else inner
    return {f"{_FEWSHOT}.{key}": value for key, value in values.items()} | flat


def known_keys() -> list[str]:
    """Every key that ``resolve`` takes, steps and their parameters included."""
    plain = [f.name for f in fields(Config) if f.name not in ("method", _FEWSHOT)]
    few = [f"{_FEWSHOT}.{f.name}" for f in fields(FewShotConfig) if f.name != "steps"]
    return [*plain, *few, *STEPS, *(f"{name}.{key}" for name, entry in STEPS.items() for key in entry.parameters)]


def _check_known(flat: Mapping[str, Any]) -> None:
    known = known_keys()
    for key in flat:
        if key not in known and not key.startswith(f"{_FEWSHOT}."):
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"configuration key {key!r} is unknown{hint}; known keys: {', '.join(sorted(known))}")


def parse_settings(
    settings: Sequence[str] | None, where: str = "--set ", example: str = "--set alpha=2"
) -> dict[str, Any]:
    """["alpha=2", "affinity=false"] -> values as YAML reads them, and 1e-4 as a number.

    Args:
        where, example: what the error says in front of the setting, and what it suggests.

    Raises ValueError for a setting without "=", or a value that is no YAML.
    """
    parsed = {}
    for item in settings or []:
        key, sign, value = item.partition("=")
        if not sign:
            raise ValueError(f"{where}{item!r} has no '='; write KEY=VALUE, for example {example}")
        key = key.strip()
        parsed[key] = value.strip() if key in _SPECS else read_value(value, f"{where}{item!r}")
    return parsed
