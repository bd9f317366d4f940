"""Methods as ``--method`` names them: "default", or with settings "default+looks=[1,1.5]+looks.flip=true"."""

from __future__ import annotations

import re
from typing import Any

from clipseg_ws.config import parse_settings


def split_methods(text: str) -> list[str]:
    """The methods of a list with commas; commas inside brackets belong to a setting."""
    return [name.strip() for name in re.split(r",(?![^\[]*\])", text) if name.strip()]


def parse_method(text: str) -> tuple[str, dict[str, Any]]:
    """ "default+min_area=0.01" -> ("default", {"min_area": 0.01}). Raises ValueError for a setting without "="."""
    name, *settings = (part.strip() for part in text.split("+"))
    return name, parse_settings(settings, f"method {text!r}: ", f"{name}+alpha=2")


def split_head(method: str) -> tuple[str, str | None]:
    """("default", FILE) of "head:FILE", (name, None) of any other method. Raises ValueError without a file."""
    if not method.startswith("head:"):
        return method, None
    if not (file := method.removeprefix("head:")):
        raise ValueError("method 'head:' names no file; write head:FILE, for example head:head.safetensors")
    return "default", file
