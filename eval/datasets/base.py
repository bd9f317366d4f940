"""What every data set is: a list of pictures, a vocabulary, and two doors: one for methods, one for the scorer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipseg_ws.eval import marks
from clipseg_ws.eval.guard import Labels, Sample, Setting
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.structures import IGNORE, Vocabulary
from clipseg_ws.text.vocabulary import load_vocabulary

_EXIF_ORIENTATION = 0x0112


class DatasetError(ValueError):
    """A data set that is missing or incomplete; the message shows the tree that is expected."""


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
            "tags": lambda: marks.tags(self.truth(id), names),
            "boxes": lambda: marks.boxes(self.truth(id), names),
            "points": lambda: marks.points(self.truth(id), names),
            "scribbles": lambda: marks.scribbles(self.truth(id), len(names)),
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


def lookup(mapping: Mapping[int, int], default: int = IGNORE) -> np.ndarray:
    """[256] uint8 table for label maps: ``table[labels]``; what the mapping does not name becomes ``default``."""
    table = np.full(256, default, np.uint8)
    for source, target in mapping.items():
        table[source] = target
    return table


def read_truth(path: Path, table: np.ndarray | None = None) -> np.ndarray:
    """[H, W] uint8 labels of a palette or grey PNG, through ``table`` [256] where given."""
    labels = read_label_png(path)
    if labels.dtype != np.uint8:
        raise DatasetError(f"{str(path)!r} holds 16-bit labels up to {labels.max()}; 8-bit labels 0…255 are expected")
    return labels if table is None else table[labels]


def unrotated(path: Path) -> Path | np.ndarray:
    """The path, or the pixels [H, W, 3] as stored where EXIF asks for a rotation: official masks know no EXIF."""
    with Image.open(path) as picture:
        if picture.getexif().get(_EXIF_ORIENTATION, 1) in (0, 1):
            return path
        return np.asarray(picture.convert("RGB"))


def find_root(root: str | Path | None, name: str, marker: str, inside: Iterable[str], tree: str) -> Path:
    """The first of ``root`` and ``root/inside…`` that holds ``marker``. Raises DatasetError with the expected tree."""
    if root is None:
        raise DatasetError(f"{name} needs --root; expected there:\n{tree}")
    base = Path(root).expanduser()
    for candidate in (base, *(base / part for part in inside)):
        if (candidate / marker).exists():
            return candidate
    problem = "does not exist" if not base.is_dir() else f"holds no {marker}"
    raise DatasetError(f"{name}: {str(base)!r} {problem}; expected:\n{tree}")


def need(path: Path, name: str, tree: str, hint: str = "") -> Path:
    """``path`` if it exists. Raises DatasetError with the expected tree and a hint."""
    if not path.exists():
        raise DatasetError(f"{name}: {str(path)!r} is missing{'; ' + hint if hint else ''}; expected:\n{tree}")
    return path


def read_list(path: Path) -> tuple[str, ...]:
    """Ids of a split file: the stem of the first word of every line (DeepLab's "/JPEGImages/x.jpg /…png" included)."""
    lines = path.read_text("utf-8").splitlines()
    return tuple(Path(line.split()[0]).stem for line in lines if line.strip())


def check_files(ids: Iterable[str], places: Sequence[tuple[Path, str]], name: str, tree: str, hint: str = "") -> None:
    """Raises DatasetError if a file ``folder/id+ending`` of any (folder, ending) in ``places`` is missing."""
    folders: dict[Path, set[str]] = {}
    missing = []
    for id in ids:
        for folder, ending in places:
            path = folder / f"{id}{ending}"
            if path.parent not in folders:
                folders[path.parent] = set(os.listdir(path.parent)) if path.parent.is_dir() else set()
            if path.name not in folders[path.parent]:
                missing.append(path)
    if missing:
        some = ", ".join(str(path) for path in missing[:3])
        raise DatasetError(
            f"{name}: {len(missing)} files are missing, e.g. {some}{'; ' + hint if hint else ''}; expected:\n{tree}"
        )
