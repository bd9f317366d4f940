"""One run over many pictures as data: what is the same for all of them, what became of each, and the sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from clipseg_ws.output.save import is_done, save
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.reading import read_image
from clipseg_ws.pictures.sources import Source
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stages.question import Question
from clipseg_ws.structures import IGNORE, WeakLabels

Tags = Callable[[Source], Sequence[str]]
Weak = Callable[[Source], WeakLabels]
OnResult = Callable[[Source, Segmentation], None]
Finish = Callable[[Source, Segmentation], Segmentation]
Asked = Question | Callable[[], Question]


@dataclass(frozen=True)
class Outcome:
    """What became of one picture: counts, or an error (its type and message). Small, to travel between machines.

    ``pixels``: label pixels by name, background included. ``size``: all pixels. ``ignored``: those that are 255.
    """

    source: Source
    error: tuple[str, str] | None = None
    pixels: dict[str, int] = field(default_factory=dict)
    size: int = 0
    ignored: int = 0

    @staticmethod
    def failed(source: Source, error: Exception) -> Outcome:
        """A picture that could not be done."""
        return Outcome(source, (type(error).__name__, str(error)))


@dataclass
class Summary:
    """What a run did. ``pixels`` counts labels by name over all pictures done in this run, ``pictures`` those that
    hold the name; ``size`` all pixels, ``ignored`` those that are 255."""

    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
    pixels: Counter[str] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    size: int = 0
    ignored: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one finished picture."""
        self.done += 1
        self.size += outcome.size
        self.ignored += outcome.ignored
        for name, count in outcome.pixels.items():
            self.pixels[name] += count
            self.pictures[name] += count > 0


@dataclass(frozen=True)
class Job:
    """Everything that is the same for all pictures of a run; a worker process gets it as a whole.

    Attributes: as the arguments of ``run_folder``; ``directory`` is absolute.
    """

    segmenter: Segmenter
    directory: Path
    formats: Sequence[str]
    question: Asked
    tags: Tags | None = None
    weak: Weak | None = None
    finish: Finish | None = None

    def is_done(self, source: Source) -> bool:
        """Whether all its files are there."""
        return is_done(self.directory, source.relative, self.formats)

    def load(self, source: Source) -> Picture:
        """Read and prepared. Raises ImageError."""
        return self.prepare(read_image(source), source)

    def prepare(self, image: Image.Image, source: Source) -> Picture:
        """The picture, resized for the network."""
        return self.segmenter.prepare(image, str(source))

    def segment(self, members: list[tuple[Source, Picture]]) -> list[Segmentation]:
        """Results of a batch."""
        names = None if self.tags is None else [self.tags(source) for source, _ in members]
        marks = None if self.weak is None else [self.weak(source) for source, _ in members]
        question = self.question() if callable(self.question) else self.question
        results = self.segmenter.answer(question, [picture for _, picture in members], tags=names, marks=marks)
        if self.finish is None:
            return results
        return [self.finish(source, result) for (source, _), result in zip(members, results, strict=True)]

    def write(self, source: Source, result: Segmentation) -> Outcome:
        """Write the files and count."""
        try:
            save(result, self.directory, formats=self.formats, relative=source.relative)
        except Exception as error:
            return Outcome.failed(source, error)
        size = result.labels.size
        pixels = {name: round(share * size) for name, share in result.shares().items()}
        ignored = int(np.count_nonzero(result.labels == IGNORE)) if len(result.names) < IGNORE else 0
        return Outcome(source, None, pixels, size, ignored)
