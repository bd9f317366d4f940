"""Settings, and the guard that hands out exactly the labels a setting may read.

What ground truth may be read of the picture that is being segmented is what makes numbers comparable, so it is not left
to the method: a `Sample` holds readers for the allowed labels only, asking for others raises `ProtocolViolation`, and
what was read is recorded. The scorer's own door to the masks is ``Dataset.truth``, which no method ever sees.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clipseg_ws.structures import Support, Vocabulary, WeakLabels

KINDS: dict[str, tuple[str, ...]] = {  # setting -> what may be read of the picture being segmented
    "zero": (),
    "weak": ("tags",),
    "boxes": ("boxes",),
    "points": ("points",),
    "scribbles": ("scribbles",),
    "few": (),
    "weak-few": (),
    "oracle": ("masks",),  # for checking the harness; its rows never stand beside published numbers
}
_SHOTS = re.compile(r"(few|weak-few)-(\d+)")


class ProtocolViolation(ValueError):
    """A method asked for labels that its setting does not allow."""


@dataclass(frozen=True)
class Setting:
    """What a run may read.

    Attributes:
        name: as in the results ("zero", "weak", "boxes", "points", "scribbles", "few-K", "weak-few-K", "oracle").
        kind: ``name`` without the number of shots. shots: K, 0 where there are no supports.
    """

    name: str
    kind: str
    shots: int = 0

    @property
    def reads(self) -> tuple[str, ...]:
        """Kinds of labels of the segmented picture that may be read."""
        return KINDS[self.kind]

    @property
    def answered(self) -> str:
        """The setting as a Segmenter calls it: "zero", "weak" or "few"."""
        return "few" if self.shots else "weak" if self.reads and self.kind != "oracle" else "zero"

    @property
    def supports(self) -> str:
        """What is known of the support pictures: "support masks", "support tags" or ""."""
        return {"few": "support masks", "weak-few": "support tags"}.get(self.kind, "")


def parse_setting(text: str) -> Setting:
    """The setting called ``text``. Raises ValueError with the choices for an unknown one."""
    found = _SHOTS.fullmatch(text)
    if found and int(found[2]) > 0:
        return Setting(text, found[1], int(found[2]))
    if text in KINDS and text not in ("few", "weak-few"):
        return Setting(text, text)
    choices = "zero, weak, boxes, points, scribbles, few-K, weak-few-K, oracle"
    raise ValueError(f"unknown setting {text!r}; choose from {choices}, e.g. 'weak' or 'few-5'")


class Labels:
    """The labels of one picture, guarded by the setting.

    Args:
        setting: decides what may be read. readers: kind of label -> function that reads it; those that the setting
            does not allow are dropped here and cannot be reached through this object any more.
        origins: kind of label -> where it comes from where that is not the official source (e.g. "from masks").
    Attributes:
        read: what has been read so far, as it goes into the column ``labels_read``.
    """

    def __init__(
        self, setting: Setting, readers: Mapping[str, Callable[[], Any]], origins: Mapping[str, str] | None = None
    ) -> None:
        self.setting = setting
        self.read: set[str] = set()
        self._readers = {kind: reader for kind, reader in readers.items() if kind in setting.reads}
        self._origins = dict(origins or {})

    def _read(self, kind: str) -> Any:
        if kind not in self._readers:
            allowed = ", ".join(self.setting.reads) or "nothing"
            raise ProtocolViolation(
                f"setting {self.setting.name!r} may read {allowed} of the picture, not {kind}; "
                f"use a setting that allows it, e.g. --setting {_example(kind)}"
            )
        self.read.add(f"{kind} {self._origins[kind]}" if kind in self._origins else kind)
        return self._readers[kind]()

    def tags(self) -> tuple[str, ...]:
        """Names of the classes in the picture."""
        names: tuple[str, ...] = self._read("tags")
        return names

    def boxes(self) -> tuple[tuple[str, float, float, float, float], ...]:
        """(name, x0, y0, x1, y1) per object, ends exclusive."""
        boxes: tuple[tuple[str, float, float, float, float], ...] = self._read("boxes")
        return boxes

    def points(self) -> tuple[tuple[str, float, float], ...]:
        """(name, x, y) per object."""
        points: tuple[tuple[str, float, float], ...] = self._read("points")
        return points

    def scribbles(self) -> Any:
        """[H, W] uint8: 0 background stroke, i+1 class i, 255 unmarked."""
        return self._read("scribbles")

    def masks(self) -> Any:
        """[H, W] uint8 truth, 255 ignored; for the setting "oracle" only."""
        return self._read("masks")

    def weak(self, names: tuple[str, ...]) -> WeakLabels | None:
        """All that the setting allows as one `WeakLabels`; None where it allows nothing.

        ``names``: the vocabulary, for turning scribbled labels into tags.
        """
        kind = self.setting.kind
        if kind == "weak":
            return WeakLabels(tags=self.tags())
        if kind == "boxes":
            boxes = self.boxes()
            return WeakLabels(tags=_ordered({box[0] for box in boxes}, names), boxes=boxes)
        if kind == "points":
            points = self.points()
            return WeakLabels(tags=_ordered({point[0] for point in points}, names), points=points)
        if kind == "scribbles":
            drawn = self.scribbles()
            return WeakLabels(tags=tuple(n for i, n in enumerate(names) if (drawn == i + 1).any()), scribbles=drawn)
        return None


def _ordered(found: set[str], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name in found)


def _example(kind: str) -> str:
    return next(name for name, reads in KINDS.items() if kind in reads)


@dataclass(frozen=True, eq=False)
class Sample:
    """What a method gets to see of one picture.

    Attributes:
        id: unique within the data set. image: path, or uint8 array [H, W, 3] RGB.
        labels: guarded. classes: the vocabulary to answer with; label i+1 belongs to name i.
        background: False where the protocol has no background class.
        supports: example pictures in the few-shot settings.
    """

    id: str
    image: Any
    labels: Labels
    classes: Vocabulary
    background: bool = True
    supports: tuple[Support, ...] = ()
