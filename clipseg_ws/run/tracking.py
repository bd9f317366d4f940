"""One object through a sequence: the first frame's mask is the example, sure frames join it (SG-One's use on DAVIS)."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.fewshot.bank import SupportBank, load_bank
from clipseg_ws.fewshot.labels import vocabulary_of
from clipseg_ws.output.answers import question_digest
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.run.asked import content_of
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stages.question import Question
from clipseg_ws.structures import IGNORE, Support, Vocabulary

FRAME = "frame "  # begins the names of examples that are frames


class Tracker:
    """A bank that grows with the frames in which the object is sure; hand ``question`` and ``seen`` to ``run_folder``.

    Args:
        segmenter: of the answers that will be seen. bank: the first frame's, never dropped.
        question: what the first frame was asked, of ``segmenter.ask(..., supports=bank)``.
        every: only each so many-th frame may join. keep: at most so many frames of a class beside the first bank.
        sure: least mean confidence over a class's pixels, in [0, 1]; pixels below it are left out of the example.
        frames: the sequence, so that a frame's turn depends on its place; empty: on how many were seen before.
        file: where the frames that joined are kept, for ``restore``; None: nowhere.

    Raises:
        ValueError: ``every`` or ``keep`` too small.
    """

    def __init__(
        self, segmenter: Segmenter, bank: SupportBank, question: Question, *, every: int = 5, keep: int = 4,
        sure: float = 0.7,
        frames: Sequence[Any] = (), file: str | Path | None = None,
    ) -> None:  # fmt: skip
        if every < 1 or keep < 0:
            raise ValueError(f"every={every}, keep={keep}; at least 1 and 0 are needed, for example 5 and 4")
        self.segmenter, self.start, self.every, self.keep, self.sure = segmenter, bank, every, keep, sure
        self.places = {str(frame): place for place, frame in enumerate(frames)}
        self.file = None if file is None else Path(file)
        self.joined: dict[str, list[SupportBank]] = {}  # one frame more than ``keep``: the last may have to be undone
        self.frames = 0
        self._bank = bank
        self._question, self._asked_of, self._begun = question, bank, question

    def question(self) -> Question:
        """What the next frame is asked: the same names, with the examples so far."""
        if self._asked_of is not self._bank:
            asked = self._question.vocabulary
            labels = self._asked_of.asked or self._asked_of.labels
            alone = self._question.text is None and asked.names == vocabulary_of(labels).names
            words: Vocabulary | None = None if alone else asked
            self._question, self._asked_of = self.segmenter.ask(words, supports=self._bank), self._bank
        return self._question

    def about(self) -> dict[str, Any]:
        """What decides the answers of a sequence beside the settings, for ``run_folder(about=...)``."""
        question = content_of(self.segmenter, self._begun, {})
        rule = {"every": self.every, "keep": self.keep, "sure": self.sure}
        return {"tracked from": question_digest(question), "tracking": rule}

    def bank(self) -> SupportBank:
        """The examples for the next frame."""
        return self._bank

    def restore(self, done: Container[str]) -> None:
        """Take up the frames that joined in a run that was cut off, as far as they are ``done``.

        Raises BankError where the file was made with other weights.
        """
        if self.file is None or not self.file.exists():
            return
        saved = load_bank(self.file, self.segmenter.features or self.segmenter.backbone)
        for entry in saved.entries:
            if entry.name.startswith(FRAME) and entry.name.removeprefix(FRAME) in done:
                self.joined.setdefault(entry.label, []).append(replace(saved, entries=(entry,)))
        self._bank = self._merged(self.keep)

    def seen(self, source: Any, result: Segmentation) -> None:
        """Take note of a frame's answer; it joins where it is its turn and the object is sure."""
        place = self.places.get(str(source), self.frames)
        self.frames += 1
        if (place + 1) % self.every or not self.keep:
            return
        for name in result.names:
            mask = result.mask(name)
            if not mask.any() or float(result.confidence[mask].mean()) < self.sure:
                continue
            unsure = result.confidence < self.sure
            example = Support(result.image, np.where(unsure, IGNORE, mask).astype(np.uint8), name)
            if (np.asarray(example.mask) == 1).any():
                made = self.segmenter.bank([example])
                mine = self.joined.setdefault(name, [])
                mine.append(replace(made, entries=(replace(made.entries[0], name=f"{FRAME}{source}"),)))
                del mine[: -self.keep - 1]
        self._bank = self._merged(self.keep)
        if self.file is not None:
            self._merged(self.keep + 1).save(self.file)

    def _merged(self, keep: int) -> SupportBank:
        """The first bank and the last ``keep`` frames of every class."""
        bank = self.start
        for parts in self.joined.values():
            for part in parts[-keep:]:
                bank = bank.merge(part)
        return bank
