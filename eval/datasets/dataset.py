"""What every data set is: a list of pictures, a vocabulary, and two doors: one for methods, one for the scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.eval.datasets import derived_marks
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.guard import Labels, Sample, Setting
from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.vocabulary import load_vocabulary


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures with label maps.

    Attributes:
        name, split: as in the results. root: where it lies, None for generated data.
        setting: what its samples let a method read.
        vocabulary: C classes; label i+1 belongs to ``names[i]``. prompts: where the vocabulary's words come from.
        ids: picture names in order.
        image: id -> path or uint8 [H, W, 3]. truth: id -> uint8 [H, W], 0 background, 255 ignored: the scorer's door.
        background: whether the protocol has a background class; without one, 0 never occurs in the truth.
        expected: number of pictures of the official split, None where there is no official number.
        official: kind of mark -> reader of the official file; what is missing is derived from the masks.
        files: id -> the files that image, truth and official marks are read from, whose content is part of a run's
            identity; () where the id alone decides them; None: what image and truth give is hashed itself.
        average: classes of the mean in place of the protocol's, "union" or "truth" (see metrics).
        notes: what else should be known of a result (folder of the masks, origin of tags).
    """

    name: str
    split: str
    setting: Setting
    vocabulary: Vocabulary
    ids: tuple[str, ...]
    image: Callable[[str], Any]
    truth: Callable[[str], np.ndarray]
    background: bool = True
    prompts: str = ""
    root: Path | None = None
    expected: int | None = None
    official: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    average: str | None = None
    files: Callable[[str], Sequence[Path]] | None = None

    @property
    def num_classes(self) -> int:
        """Labels of the confusion matrix: the classes and label 0."""
        return len(self.vocabulary.names) + 1

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order, label 0 first."""
        return ("background" if self.background else "(no answer)", *self.vocabulary.names)

    def labels(self, id: str) -> Labels:
        """The guarded labels of one picture."""
        names = self.vocabulary.names
        derived: dict[str, Callable[[], Any]] = {
            "tags": lambda: derived_marks.tags(self.truth(id), names),
            "boxes": lambda: derived_marks.boxes(self.truth(id), names),
            "points": lambda: derived_marks.points(self.truth(id), names),
            "scribbles": lambda: derived_marks.scribbles(self.truth(id), len(names)),
            "masks": lambda: self.truth(id),
        }
        official = {kind: (lambda reader=reader: reader(id)) for kind, reader in self.official.items()}
        origins = {kind: "from masks" for kind in derived if kind not in official and kind != "masks"}
        return Labels(self.setting, derived | official, origins)

    def sample(self, id: str) -> Sample:
        """What a method gets to see of one picture."""
        return Sample(id, self.image(id), self.labels(id), self.vocabulary, self.background)

    def limited(self, count: int) -> Dataset:
        """The first ``count`` pictures only."""
        return replace(self, ids=self.ids[:count])


def vocabulary_of(prompts: str, count: int, *, background: bool = True) -> Vocabulary:
    """The vocabulary file ``prompts``, checked to hold ``count`` classes; without background words if so wanted."""
    vocabulary = load_vocabulary(prompts)
    if len(vocabulary.names) != count:
        raise DatasetError(f"prompts {prompts!r} hold {len(vocabulary.names)} classes, this data set has {count}")
    return vocabulary if background else replace(vocabulary, background=())


def subset_of(vocabulary: Vocabulary, indices: Sequence[int]) -> Vocabulary:
    """The classes at ``indices`` (0-based) of a vocabulary, in that order."""
    return replace(
        vocabulary,
        names=tuple(vocabulary.names[i] for i in indices),
        synonyms=tuple(vocabulary.synonyms[i] for i in indices),
        prompts=tuple(vocabulary.prompts[i] for i in indices) if vocabulary.prompts else (),
    )
