"""What a model recommends: every key is known and every value possible, or the model's file is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clipseg_ws.config.fields import check_parameter
from clipseg_ws.config.methods import METHODS
from clipseg_ws.config.settings import DEFAULT_METHOD, SETTINGS, flatten, resolve
from clipseg_ws.config.steps import STEPS
from clipseg_ws.registry import Spec, checked_spec, find
from clipseg_ws.text.lists import load_background, load_templates
from clipseg_ws.text.vocabulary import FUSIONS

SAME_WORDS = ("templates", "background", "fusion")  # a question is asked before it is known what the pictures bring


def check_advice(recommended: Mapping[str, Any], file: str) -> None:
    """Check ``ModelCard.recommended`` as a whole, whatever of it is used later.

    Args:
        file: where it stands, for the message.

    Raises:
        ValueError: an unknown key, method, setting or step, a value of another type or out of its range, or words that
            differ between the settings of the method "default"; begins with ``file``.
    """
    try:
        for layer in _layers(recommended):
            _check_values(layer)
        for method in dict.fromkeys((DEFAULT_METHOD, *recommended.get("methods", {}))):
            made = [resolve(method, {}, recommended, setting) for setting in (None, *SETTINGS)]
            for key in SAME_WORDS:
                if any(getattr(one, key) != getattr(made[1], key) for one in made[2:]):
                    raise ValueError(f"{key} differs between {', '.join(SETTINGS)}; let it stand beside 'settings'")
    except ValueError as error:
        raise ValueError(f"{file or 'the model'}: what is recommended there cannot be used: {error}") from error


def _layers(recommended: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The settings of every place, flat. Raises ValueError for places that do not exist or hold no settings."""
    general = {key: value for key, value in recommended.items() if key not in ("methods", "settings")}
    yield flatten(general)
    for method, settings in _object(recommended, "methods", '{"cam": {"alpha": 2.0}}').items():
        find(METHODS, method, "method")
        yield flatten(_object({method: settings}, method, '{"alpha": 2.0}'))
    for setting, settings in _object(recommended, "settings", '{"few": {"alpha": 2.0}}').items():
        if setting not in SETTINGS:
            raise ValueError(f"settings for {setting!r}; they can be for {', '.join(SETTINGS)}")
        own = dict(_object({setting: settings}, setting, '{"alpha": 2.0}'))
        find(METHODS, own.pop("method", DEFAULT_METHOD), "method")
        yield flatten(own)


def _object(holder: Mapping[str, Any], key: str, example: str) -> Mapping[str, Any]:
    value = holder.get(key, {})
    if not isinstance(value, Mapping):
        raise ValueError(f"{key}={value!r}; settings by name are needed, for example {example}")
    return value


def _check_values(settings: Mapping[str, Any]) -> None:
    """What ``resolve`` looks at only where a step runs, or where words are asked for."""
    for key, value in settings.items():
        name, dot, parameter = key.partition(".")
        if dot and name in STEPS:
            spec = checked_spec(Spec(name, ((parameter, value),)), STEPS, "step")
            check_parameter(key, spec.parameters[0][1])
    if settings.get("background") is not None and settings["background"] != "auto":
        load_background(settings["background"])
    if settings.get("templates") is not None:
        load_templates(settings["templates"])
    if settings.get("fusion") is not None and settings["fusion"] not in FUSIONS:
        raise ValueError(f"fusion={settings['fusion']!r}; choose one of {', '.join(FUSIONS)}")
