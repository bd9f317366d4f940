"""What a scheme trains with, and the plain scheme."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipseg_ws.heads import SCHEMES
from clipseg_ws.heads.base import Head
from clipseg_ws.heads.data import HeadData, Targets
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.file import HeadCard
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.registry import Spec, checked_spec

# what a scheme may read of its course, for errors
NEEDED = {
    "unlabelled": "pictures without labels: --unlabelled FOLDER",
    "old": "a head to add classes to: --add-to old.safetensors",
    "feed_back": "the weak pipeline that makes its masks again",
}


@dataclass(frozen=True, eq=False)
class Course:
    """A head, what it learns from, and where.

    Attributes:
        kind, options: of the head. training: of its loop. data: pictures and masks. classes: C names.
        folder: of checkpoints and logs, below it a folder a round; None: nothing is written.
        fit: further arguments of every ``SegmentationHead.fit``: validation, workers, about, check.
        unlabelled: pictures whose targets are not read. old: a head to which classes are added, with its card.
        feed_back: (trained head, blocks) -> masks of ``data`` made again with its affinity.
    """

    kind: str
    training: TrainConfig
    data: HeadData
    classes: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    fit: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: HeadData | None = None
    old: tuple[Head, HeadCard] | None = None
    feed_back: Callable[[Head, int], Targets] | None = None

    def head(self, seed: int = 0) -> SegmentationHead:
        """An untrained head; ``seed`` is added to the training's."""
        values = self.training.as_dict() | {"seed": self.training.seed + seed}
        return SegmentationHead(self.kind, options=dict(self.options), **values)

    def learn(
        self, head: SegmentationHead, data: HeadData | None = None, *, place: str = "", **more: Any
    ) -> SegmentationHead:
        """Fit ``head`` on ``data`` (None: the course's), its files in ``place`` below the folder."""
        folder = None if self.folder is None else self.folder / place
        return head.fit(data or self.data, classes=self.classes, folder=folder, **dict(self.fit) | more)


def run_scheme(course: Course, spec: Spec) -> SegmentationHead:
    """Train by a scheme of ``SCHEMES``.

    Raises:
        ValueError: an unknown scheme or parameter, or something that it reads is not there.
    """
    spec = checked_spec(spec, SCHEMES, "scheme")
    entry = SCHEMES[spec.name]
    if (reads := entry.about.get("reads")) and getattr(course, reads) is None:
        raise ValueError(f"the scheme {entry.name!r} needs {NEEDED.get(reads, reads)}")
    head: SegmentationHead = entry.load()(course, **spec.resolved(SCHEMES))
    return head


def fit_plain(course: Course) -> SegmentationHead:
    """The masks as they are."""
    return course.learn(course.head())
