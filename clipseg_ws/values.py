"""Values as users write them: read, and checked against the type of a default."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

import yaml


def near_miss(name: object, names: Iterable[str]) -> str:
    """ "did you mean 'x'? " for errors, or "" where no name is near."""
    close = difflib.get_close_matches(str(name), list(names), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def read_value(text: str, where: str = "") -> Any:
    """A value as a user writes it: YAML, and numbers such as 1e-4, which YAML takes for text.

    Raises ValueError, beginning with ``where``, for what is no YAML.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "no value"
        raise ValueError(f"{where or repr(text)} cannot be read ({problem}); put text into quotes") from error
    if isinstance(value, str):
        try:
            return float(value) if any(c in value for c in "eE.") and value.lower() not in ("nan", "inf") else value
        except ValueError:
            return value
    return value


def read_pairs(items: Iterable[str] | None, option: str, example: str) -> dict[str, Any]:
    """["alpha=2", "lr=1e-4"] -> values by name, read by ``read_value``.

    Args:
        option, example: "--set" and "alpha=2", for the error.

    Raises ValueError for an item without "=", or a value that is no YAML.
    """
    pairs: dict[str, Any] = {}
    for item in items or ():
        key, sign, value = item.partition("=")
        try:
            if not sign:
                raise ValueError("it has no '='")
            pairs[key.strip()] = read_value(value)
        except (ValueError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{option} {item!r}: {reason}; write KEY=VALUE, for example {option} {example}") from error
    return pairs


def checked_value(key: str, value: Any, default: Any) -> Any:
    """``value`` as the type of ``default``: whole numbers as floats where a float is meant, lists as tuples.

    Raises ValueError where it is of another type.
    """
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(default, bool):
        good = isinstance(value, bool)
    elif isinstance(default, int):
        good = isinstance(value, int) and not isinstance(value, bool)
    elif isinstance(default, float):
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        value = float(value) if good else value
    elif isinstance(default, tuple):
        value = value if isinstance(value, tuple) else (value,)
        good = all(_alike(item, default[0]) for item in value) if default else True
    elif isinstance(default, str):
        good = isinstance(value, str)
    else:
        good = True
    if not good:
        raise ValueError(f"{key}={value!r} is {type(value).__name__}; {_kind(default)} is needed, e.g. {key}={default}")
    return value


def _alike(value: Any, example: Any) -> bool:
    if isinstance(example, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, type(example)) and isinstance(value, bool) == isinstance(example, bool)


def _kind(default: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", tuple: "a list"}
    return names.get(type(default), "another value")
