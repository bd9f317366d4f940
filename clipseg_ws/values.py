"""Values as users write them: read, and checked against the type of a default."""

from __future__ import annotations

import difflib
import inspect
import io
import math
import tokenize
from collections.abc import Iterable
from functools import cache
from typing import Any

from clipseg_ws.door.documents import parse_yaml
from clipseg_ws.door.errors import InputError, one_line

_MOST = 10_000  # letters of one value


def near_miss(name: object, names: Iterable[str]) -> str:
    """ "did you mean 'x'? " for errors, or "" where no name is near."""
    close = difflib.get_close_matches(str(name)[:100], list(names), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def read_value(text: str, where: str = "") -> Any:
    """A value as a user writes it: YAML, and numbers such as 1e-4, which YAML takes for text.

    Raises InputError, beginning with ``where``, for what is no YAML.
    """
    shown = where or repr(one_line(text, 60))
    if len(text) > _MOST:
        raise InputError(f"{shown} is too long: {len(text)} letters, at most {_MOST} are taken")
    try:
        value = parse_yaml(text, what="a value")
    except ValueError as error:
        problem = str(error).removeprefix("damaged, or ").removeprefix("not a value: ")
        raise InputError(f"{shown} cannot be read ({problem}); put text into quotes") from error
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

    Raises InputError for an item without "=", or a value that is no YAML.
    """
    pairs: dict[str, Any] = {}
    for item in items or ():
        key, sign, value = item.partition("=")
        try:
            if not sign:
                raise ValueError("it has no '='")
            pairs[key.strip()] = read_value(value)
        except ValueError as error:
            text = f"{option} {one_line(item, 80)!r}: {error}; write KEY=VALUE, for example {option} {example}"
            raise InputError(text) from error
    return pairs


def checked_value(key: str, value: Any, default: Any) -> Any:
    """``value`` as the type of ``default``: whole numbers as floats where a float is meant (and 1e3 as a whole number
    where one is), lists as tuples.

    Raises InputError where it is of another type, or not finite.
    """
    if isinstance(value, list):
        value = tuple(value)
    if isinstance(default, bool):
        good = isinstance(value, bool)
    elif isinstance(default, int):
        value = int(value) if isinstance(value, float) and value.is_integer() else value
        good = isinstance(value, int) and not isinstance(value, bool)
    elif isinstance(default, float):
        good = is_number(value)
        value = float(value) if good else value
    elif isinstance(default, tuple):
        value = value if isinstance(value, tuple) else (value,)
        good = all(_alike(item, default[0]) for item in value) if default else True
    elif isinstance(default, str):
        good = isinstance(value, str)
    else:
        good = True
    if not good:
        raise InputError(
            f"{key}={one_line(repr(value), 80)} is {type(value).__name__}; {_kind(default)} is needed, "
            f"e.g. {key}={_shown(default)}"
        )
    return value


def is_number(value: Any) -> bool:
    """Whether it is a finite number, no truth value, that a float can hold."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # whole numbers of more than 308 digits
        return False


def _alike(value: Any, example: Any) -> bool:
    if isinstance(example, (int, float)) and not isinstance(example, bool):
        return is_number(value) and (isinstance(example, float) or isinstance(value, int))
    return isinstance(value, type(example)) and isinstance(value, bool) == isinstance(example, bool)


def _kind(default: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a word", tuple: "a list"}
    return names.get(type(default), "another value")


def _shown(default: Any) -> str:
    """As on a command line."""
    return str(default).lower() if isinstance(default, bool) else str(default)


@cache
def comments(owner: type) -> dict[str, str]:
    """The comment behind every field of a dataclass, as its source has it; {} where the source is not there."""
    try:
        lines = inspect.getsource(owner)
    except OSError:
        return {}
    found: dict[str, str] = {}
    name, depth = "", 0
    for token in tokenize.generate_tokens(io.StringIO(lines).readline):
        depth += (token.string in "([{") - (token.string in ")]}") if token.type == tokenize.OP else 0
        if token.type == tokenize.NAME and token.start[1] == 4 and depth == 0:
            name = token.string
        elif token.type == tokenize.COMMENT and name and token.start[1] > 4:
            found.setdefault(name, token.string.lstrip("# "))
    return found


def explained(error: ValueError, owner: type) -> InputError:
    """An error that begins with a field's name and "=", with the field's comment behind it."""
    text, about = str(error), comments(owner)
    said = about.get(text.partition("=")[0].split(".")[-1], "")
    return InputError(f"{text} ({said})" if said and said not in text else text)
