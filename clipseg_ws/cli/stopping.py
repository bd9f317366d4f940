"""SIGTERM and Ctrl+C: the file at hand is finished, then one line says how to go on; exit 143 or 130."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

ON = "stopped; whatever is written is whole, and the same command goes on where it was"


class Stopped(KeyboardInterrupt):
    """A signal asked for the end; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stopping() -> Iterator[None]:
    """Turn SIGTERM into the interruption that Ctrl+C is, and either into its exit status.

    Everything that is open is closed on the way: writers in threads finish their file, temporary files go away. A
    second signal while that happens ends the process at once.
    """
    seen: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        seen.append(number)
        raise Stopped(number)

    before = _install(stop)
    try:
        yield
    except (KeyboardInterrupt, SystemExit, Exception):
        if not seen:
            raise
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)
    if seen:
        typer.echo(f"clipseg-ws: {ON}", err=True)
        sys.exit(128 + seen[0])


def _install(stop: Any) -> dict[int, Any]:
    """Set the handlers; {} outside the main thread, where none can be set."""
    before: dict[int, Any] = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            before[number] = signal.signal(number, stop)
        except ValueError:
            break
    return before
