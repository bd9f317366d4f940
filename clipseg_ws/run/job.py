"""One run over many pictures as data: what is the same for all of them, what became of each, and the sum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from clipseg_ws.output.answers import Answer, add_answer, picture_state
from clipseg_ws.output.save import save
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.reading import read_image
from clipseg_ws.pictures.sources import Source
from clipseg_ws.run.asked import labels_digest
from clipseg_ws.run.plan import Plan
from clipseg_ws.run.summary import Outcome
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stages.question import Question
from clipseg_ws.structures import IGNORE, WeakLabels

OnResult = Callable[[Source, Segmentation], None]
Finish = Callable[[Source, Segmentation], Segmentation]
Asked = Question | Callable[[], Question]


@dataclass(frozen=True, kw_only=True)
class Job(Plan):
    """A plan and who carries it out; a worker process gets it as a whole.

    Attributes: as the arguments of ``run_folder``.
    """

    segmenter: Segmenter
    question: Asked
    finish: Finish | None = None

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
