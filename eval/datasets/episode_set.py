"""Few-shot episodes over a data set: PASCAL-5i, COCO-20i, FSS-1000, scenes and folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipseg_ws.door.pictures import open_picture
from clipseg_ws.eval.datasets.episodes import Episode
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.guard import Labels, Sample, Setting
from clipseg_ws.structures import IGNORE, Support, Vocabulary


@dataclass(frozen=True, eq=False)
class EpisodeSet:
    """One-class episodes; has the same doors as a `Dataset` (``sample`` for methods, ``truth`` for the scorer).

    Attributes:
        name, split, root, prompts, notes: as in `Dataset`. setting: "few-K" or "weak-few-K".
        episodes: frozen list. classes: class ids of the fold. names: class id -> word.
        image: picture name -> path or uint8 [H, W, 3].
        mask: (picture name, class id) -> uint8 [H, W], 1 = the class, 0 = anything else, 255 = ignored.
        files: picture name -> its files, as in `Dataset`.
        size: (H, W) to which queries and supports are resized before anything else (HSNet 400 x 400), None: original.
    """

    name: str
    split: str
    setting: Setting
    episodes: tuple[Episode, ...]
    classes: tuple[int, ...]
    names: Mapping[int, str]
    image: Callable[[str], Any]
    mask: Callable[[str, int], np.ndarray]
    root: Path | None = None
    prompts: str = "class name"
    expected: int | None = None
    size: tuple[int, int] | None = None
    background: bool = True
    notes: Mapping[str, Any] = field(default_factory=dict)
    files: Callable[[str], Sequence[Path]] | None = None

    def __post_init__(self) -> None:
        """Raises DatasetError where the list does not fit the setting or the fold."""
        shots = {len(episode.supports) for episode in self.episodes}
        if shots != {self.setting.shots}:
            raise DatasetError(f"{self.name}: setting {self.setting.name!r} with a list of {sorted(shots)} shots")
        strangers = {e.class_id for e in self.episodes} - set(self.classes)
        if strangers:
            raise DatasetError(f"{self.name}: classes {sorted(strangers)[:5]} of the list are not in {self.classes}")

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the episodes, in order."""
        return tuple(f"{i:05d}" for i in range(len(self.episodes)))

    @property
    def fold(self) -> int | None:
        """The fold of the list."""
        return self.episodes[0].fold

    @property
    def num_classes(self) -> int:
        """Labels of an episode: background and the class."""
        return 2

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the fold's classes, in the order of ``classes``."""
        return tuple(self.names[c] for c in self.classes)

    def episode(self, id: str) -> Episode:
        """The episode called ``id``."""
        return self.episodes[int(id)]

    def sample(self, id: str) -> Sample:
        """Query, class name and supports; no label of the query can be reached."""
        episode = self.episode(id)
        word = self.names[episode.class_id]
        supports = tuple(self._support(name, episode.class_id, word) for name in episode.supports)
        words = Vocabulary((word,), ((word,),))
        return Sample(id, self._image(episode.query), Labels(self.setting, {}), words, True, supports)

    def truth(self, id: str) -> np.ndarray:
        """uint8 [H, W] of the query: 1, 0, 255 = ignored. The scorer's door."""
        episode = self.episode(id)
        return self._resized(self.mask(episode.query, episode.class_id))

    def limited(self, count: int) -> EpisodeSet:
        """The first ``count`` episodes only."""
        return replace(self, episodes=self.episodes[:count])

    def _support(self, name: str, class_id: int, word: str) -> Support:
        known = self.setting.kind == "few"
        return Support(self._image(name), self._resized(self.mask(name, class_id)) if known else None, word)

    def _image(self, name: str) -> Any:
        image = self.image(name)
        if self.size is None:
            return image
        with nullcontext(Image.fromarray(image)) if isinstance(image, np.ndarray) else open_picture(image) as picture:
            return np.asarray(picture.convert("RGB").resize(self.size[::-1], Image.Resampling.BILINEAR))

    def _resized(self, mask: np.ndarray) -> np.ndarray:
        if self.size is None:
            return mask
        rows, columns = (np.arange(new) * old // new for new, old in zip(self.size, mask.shape, strict=True))
        return np.asarray(mask[rows][:, columns])  # nearest as torch does it: index floor(i * old / new)


def binary(labels: np.ndarray, value: int) -> np.ndarray:
    """uint8 [H, W]: 1 where ``labels`` equal ``value``, 255 where they are ignored, else 0."""
    return np.where(labels == IGNORE, IGNORE, labels == value).astype(np.uint8)
