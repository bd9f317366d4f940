"""Whether an error is the product's own: raised on purpose, in one line, by a ``raise`` of the product."""

from __future__ import annotations

import ast
import traceback
from functools import cache
from pathlib import Path

import clipseg_ws.eval

ROOMS = [Path(folder).resolve() for package in (clipseg_ws, clipseg_ws.eval) for folder in package.__path__]
OWN = (ValueError, OSError, ImportError)


@cache
def raises(file: str) -> frozenset[int]:
    """The lines of a source file that belong to a ``raise``."""
    tree = ast.parse(Path(file).read_text("utf-8"))
    spans = [(node.lineno, node.end_lineno or node.lineno) for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return frozenset(line for first, last in spans for line in range(first, last + 1))


def where(error: BaseException) -> traceback.FrameSummary:
    """The innermost frame."""
    return traceback.extract_tb(error.__traceback__)[-1]


def is_own(error: BaseException) -> bool:
    """Of a kind that a user can mend, on one line, from a ``raise`` in the product's source."""
    frame = where(error)
    path = Path(frame.filename).resolve()
    inside = any(path.is_relative_to(folder) for folder in ROOMS)
    text = str(error)
    return isinstance(error, OWN) and inside and frame.lineno in raises(str(path)) and bool(text.strip())


def described(error: BaseException) -> str:
    """Kind, place and text of an error, for a table."""
    frame = where(error)
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno} ({frame.line}): {str(error)[:120]}"
