"""Fonts for legends in any script: for every text one that has all its characters, by fontconfig where it is there."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
# where there is no fontconfig (Windows, macOS): what Pillow finds by name
_NAMES = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf", "msyh.ttc",
    "Nirmala.ttf", "seguiemj.ttf",
)  # fmt: skip
_NOWHERE = "\uffff"  # no character: every font draws its sign for a missing one


class FontWarning(UserWarning):
    """Characters that no font of this machine has; the legend shows a box in their place."""


def fonts_for(texts: Sequence[str], size: int) -> list[Font]:
    """A font of ``size`` pixels for every text. Warns (FontWarning) of characters that no font has.

    Example:
        >>> fonts_for(["cat  12.0%", "кошка  3.1%"], 16)
    """
    chosen = [_font_for(text, size) for text in texts]
    lost = dict.fromkeys(c for text, font in zip(texts, chosen, strict=True) for c in missing(text, font))
    if lost:
        named = ", ".join(f"{c} (U+{ord(c):04X})" for c in list(lost)[:8])
        more = f", … ({len(lost)})" if len(lost) > 8 else ""
        warnings.warn(f"no font of this machine has {named}{more}; install one, e.g. Noto", FontWarning, stacklevel=3)
    return chosen


def missing(text: str, font: Font) -> list[str]:
    """The characters of a text that a font does not have."""
    if text.isascii():
        return []
    return [c for c in dict.fromkeys(text) if not (c.isspace() or c.isascii()) and not _has(font, c)]


def _font_for(text: str, size: int) -> Font:
    """The first font that has all characters, else the one that lacks the fewest."""
    best: Font = ImageFont.load_default(size=size)
    lacking = len(missing(text, best))
    for place in _places(frozenset(c for c in text if not c.isascii())) if lacking else ():
        font = _loaded(place, size)
        if font is not None and (count := len(missing(text, font))) < lacking:
            best, lacking = font, count
        if not lacking:
            break
    return best


@cache
def _loaded(place: tuple[str, int], size: int) -> Font | None:
    try:
        return ImageFont.truetype(place[0], size, index=place[1])
    except OSError:
        return None


@cache
def _places(characters: frozenset[str]) -> tuple[tuple[str, int], ...]:
    """(file or name, index in it) of fonts that may have the characters, the most likely first."""
    found: list[tuple[str, int]] = []
    wanted = " ".join(f"{ord(c):x}" for c in sorted(characters))
    if program := shutil.which("fc-list"):
        for charset in (wanted, *(wanted.split() if " " in wanted else ())):  # all at once, else the first that has one
            asked = [program, f":charset={charset}", "file", "index"]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
            for line in sorted(done.stdout.splitlines(), key=_plainness):
                file, _, index = line.partition(":")
                number = index.rpartition("=")[2]
                found.append((file.strip(), int(number) & 0xFFFF if number.isdigit() else 0))
    return tuple(dict.fromkeys([*found, *((name, 0) for name in _NAMES)]))


def _plainness(line: str) -> tuple[bool, bool, int, str]:
    """Sorts plain sans-serif fonts first."""
    marked = any(word in line for word in ("Bold", "Italic", "Oblique", "Mono", "Light", "Condensed", "Narrow", "Thin"))
    return marked, "Sans" not in line, len(line), line


def _has(font: Font, character: str) -> bool:
    """Whether a font draws a character by a sign of its own, and not by the one for missing characters."""
    try:
        own: Any = font.getmask(character)
        nothing: Any = font.getmask(_NOWHERE)
        return bytes(own) != bytes(nothing)
    except (UnicodeEncodeError, OSError):  # Pillow's oldest font knows Latin only
        return False
