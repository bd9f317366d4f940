"""What became of each picture of a run, and the sum. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from clipseg_ws.pictures.sources import Source


@dataclass(frozen=True)
class Outcome:
    """What became of one picture: counts, or an error (its type and message). Small, to travel between machines.

    ``pixels``: label pixels by name, background included. ``size``: all pixels. ``ignored``: those that are 255.
    ``missing``: classes that were said to be there and have no pixel.
    """

    source: Source
    error: tuple[str, str] | None = None
    pixels: dict[str, int] = field(default_factory=dict)
    size: int = 0
    ignored: int = 0
    missing: tuple[str, ...] = ()

    @staticmethod
    def failed(source: Source, error: Exception) -> Outcome:
        """A picture that could not be done."""
        return Outcome(source, (type(error).__name__, str(error)))


@dataclass
class Summary:
    """What a run did. ``pixels`` counts labels by name over all pictures done in this run, ``pictures`` those that
    hold the name; ``size`` all pixels, ``ignored`` those that are 255.

    ``again``: lines on what was done again and why. ``reasons``: of pictures that failed, "source: message", the first
    ones. ``missing``: class -> the pictures that were said to hold it and in which it has no pixel."""

    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
    pixels: Counter[str] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    size: int = 0
    ignored: int = 0
    again: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    missing: dict[str, list[str]] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one finished picture."""
        self.done += 1
        self.size += outcome.size
        self.ignored += outcome.ignored
        for name, count in outcome.pixels.items():
            self.pixels[name] += count
            self.pictures[name] += count > 0
        for name in outcome.missing:
            self.missing.setdefault(name, []).append(str(outcome.source))

    def remarks(self) -> Iterator[str]:
        """What a user should know besides the counts: names without a pixel, why pictures failed."""
        for name, pictures in self.missing.items():
            more = f", … ({len(pictures)})" if len(pictures) > 3 else ""
            yield f"{name!r} was said to be in {', '.join(pictures[:3])}{more} and has no pixel there"
        yield from (f"failed: {reason}" for reason in self.reasons)
        if self.failed > len(self.reasons):
            yield f"failed: {self.failed - len(self.reasons)} more"
