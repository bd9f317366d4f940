"""How much is taken from outside, in one table; an environment variable changes a line of it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from clipseg_ws.door.errors import InputError

PREFIX = "CLIPSEG_WS_MAX_"


@dataclass(frozen=True)
class Limit:
    """The largest number that is taken. ``about`` ends the sentence "at most N ..."."""

    value: int
    about: str


LIMITS: dict[str, Limit] = {
    "pixels": Limit(100_000_000, "pixels of one picture or mask; decoding takes 5 to 16 bytes each"),
    "side": Limit(65_535, "pixels of a side, as in JPEG"),
    "bytes": Limit(2_000_000_000, "bytes of one label file (JSON, XML, CSV, text)"),
    "unpacked_bytes": Limit(200_000_000, "bytes of a packed table when it is unpacked"),
    "yaml_bytes": Limit(5_000_000, "bytes of a YAML file"),
    "download_bytes": Limit(100_000_000, "bytes of one download"),
    "depth": Limit(100, "levels of nesting in YAML and XML; JSON ends where Python's parser does"),
    "values": Limit(1_000_000, "values of a YAML file, those behind aliases counted each time"),
    "rows": Limit(5_000_000, "rows of a table"),
    "names": Limit(100_000, "classes of one list"),
    "runs": Limit(50_000_000, "run lengths of one mask"),
    "layers": Limit(1_000, "layers that a model's configuration declares"),
    "width": Limit(65_536, "features that a model's configuration declares"),
    "vocabulary": Limit(10_000_000, "entries of a tokenizer that a model's configuration declares"),
}


def limit(name: str) -> int:
    """The limit in force: of ``LIMITS``, or of the environment variable ``CLIPSEG_WS_MAX_NAME``.

    Raises InputError for a variable that is no whole number of at least 1.

    Example:
        >>> limit("pixels")
        100000000
    """
    variable = PREFIX + name.upper()
    text = os.environ.get(variable)
    if text is None:
        return LIMITS[name].value
    try:
        value = float(text)
        if not (math.isfinite(value) and value >= 1):
            raise ValueError
    except ValueError:
        raise InputError(f"{variable}={text!r}; a whole number of at least 1 is needed, e.g. 1e9") from None
    return int(value)


def check(name: str, value: int, what: str = "", most: int | None = None) -> None:
    """Raise InputError where ``value`` is above the limit; the error says how to raise it. ``most``: instead of it."""
    top = limit(name) if most is None else most
    if value > top:
        about = LIMITS[name].about
        raise InputError(
            f"{what or value}, at most {top} {about.split(';')[0]} are taken",
            advice=f"more by the environment variable {PREFIX}{name.upper()}" if most is None else "",
        )
