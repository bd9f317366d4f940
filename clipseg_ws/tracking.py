"""One object through a sequence: the first frame's mask is the example, sure frames join it (SG-One's use on DAVIS)."""

from __future__ import annotations

from typing import Any

import numpy as np

from clipseg_ws.bank import SupportBank
from clipseg_ws.pipeline import Segmenter
from clipseg_ws.structures import IGNORE, Segmentation, Support


class Tracker:
    """A bank that grows with the frames in which the object is sure; hand ``bank`` and ``seen`` to ``run_folder``.

    Args:
        segmenter: of the answers that will be seen. bank: the first frame's, never dropped.
        every: only each so many-th frame may join. keep: at most so many frames of a class beside the first bank.
        sure: least mean confidence over a class's pixels, in [0, 1]; pixels below it are left out of the example.

    Raises:
        ValueError: ``every`` or ``keep`` too small.
    """

    def __init__(
        self, segmenter: Segmenter, bank: SupportBank, *, every: int = 5, keep: int = 4, sure: float = 0.7
    ) -> None:
        if every < 1 or keep < 0:
            raise ValueError(f"every={every}, keep={keep}; at least 1 and 0 are needed, for example 5 and 4")
        self.segmenter, self.start, self.every, self.keep, self.sure = segmenter, bank, every, keep, sure
        self.joined: dict[str, list[SupportBank]] = {}
        self.frames = 0
        self._bank = bank

    def bank(self) -> SupportBank:
        """The examples for the next frame."""
        return self._bank

    def seen(self, source: Any, result: Segmentation) -> None:
        """Take note of a frame's answer; it joins where it is its turn and the object is sure."""
        self.frames += 1
        if self.frames % self.every or not self.keep:
            return
        for name in result.names:
            mask = result.mask(name)
            if not mask.any() or float(result.confidence[mask].mean()) < self.sure:
                continue
            unsure = result.confidence < self.sure
            example = Support(result.image, np.where(unsure, IGNORE, mask).astype(np.uint8), name)
            if (np.asarray(example.mask) == 1).any():
                mine = self.joined.setdefault(name, [])
                mine.append(self.segmenter.bank([example]))
                del mine[: -self.keep]
        self._bank = self.start
        for parts in self.joined.values():
            for part in parts:
                self._bank = self._bank.merge(part)
