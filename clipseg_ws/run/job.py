"""One run over many pictures as data: what is the same for all of them, what became of each, and the sum."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipseg_ws.output.answers import Answer, add_answer, picture_state, question_digest
from clipseg_ws.output.save import save
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.reading import read_image
from clipseg_ws.pictures.sources import Source, is_url
from clipseg_ws.run.asked import labels_digest
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


@dataclass(frozen=True)
class Job:
    """Everything that is the same for all pictures of a run; a worker process gets it as a whole.

    Attributes: as the arguments of ``run_folder``; ``directory`` is absolute. ``root``: absolute folder to which the
        pictures' paths are relative. ``content``: of the question (``asked.content_of``). ``also``: what ``finish``
        writes besides.
    """

    segmenter: Segmenter
    directory: Path
    formats: Sequence[str]
    question: Asked
    tags: Tags | None = None
    weak: Weak | None = None
    finish: Finish | None = None
    content: Mapping[str, Any] = field(default_factory=dict)
    root: str = ""
    also: Sequence[str] = ()

    @cached_property
    def asked(self) -> str:
        """Digest of the question."""
        return question_digest(self.content)

    @property
    def wanted(self) -> tuple[str, ...]:
        """All that is written of a picture, with parameters."""
        return (*self.formats, *self.also)

    def place_of(self, source: Source) -> str:
        """Absolute path or URL of a picture."""
        location = str(source)
        return location if is_url(location) else os.path.normpath(os.path.join(self.root, location))

    def known(self, source: Source) -> WeakLabels | None:
        """What is said of a picture. Raises ValueError where its entry cannot be used."""
        if self.weak is not None:
            return self.weak(source)
        return None if self.tags is None else WeakLabels(tags=tuple(self.tags(source)))

    def labels_of(self, source: Source) -> str:
        """Digest of what is said of a picture. Raises ValueError as ``known``."""
        return labels_digest(self.known(source))

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
        """Write the files, which question they answer before them, and count."""
        try:
            known = self.known(source)
            save(
                result, self.directory, formats=self.formats, relative=source.relative,
                record=partial(self._record, source, known),
            )  # fmt: skip
        except Exception as error:
            return Outcome.failed(source, error)
        size = result.labels.size
        pixels = {name: round(share * size) for name, share in result.shares().items()}
        ignored = int(np.count_nonzero(result.labels == IGNORE)) if len(result.names) < IGNORE else 0
        said = () if known is None or result.present is None else result.present
        return Outcome(source, None, pixels, size, ignored, tuple(name for name in said if not pixels.get(name)))

    def _record(self, source: Source, known: WeakLabels | None) -> None:
        place = self.place_of(source)
        answer = Answer(self.asked, labels_digest(known), place, picture_state(place), frozenset(self.wanted))
        add_answer(self.directory, str(source.relative), answer)
