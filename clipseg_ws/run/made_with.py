"""Which model made which result: a folder never mixes answers of several models without being told to.

``.made_with.csv`` in the folder of the results has a line (image, model, weights) a finished picture, and one without
image where a run begins, which stands for pictures whose line a killed run could no longer write.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from clipseg_ws.files import append_csv
from clipseg_ws.output.answers import key_of
from clipseg_ws.pictures.sources import Source

FILE = ".made_with.csv"


class Answering(Protocol):
    """As much of a backbone as a record needs."""

    @property
    def name(self) -> str: ...
    @property
    def weights_sha256(self) -> str: ...


class MadeWith:
    """The record of one output folder, for one model.

    Args:
        directory: of the results. backbone: who answers in this run.
    """

    def __init__(self, directory: str | Path, backbone: Answering) -> None:
        self.file = Path(directory) / FILE
        self.name, self.weights = backbone.name, backbone.weights_sha256

    def check(self, kept: Iterable[Source]) -> None:
        """Raise ValueError where results that would be kept were made with another model, by name or by weights.

        What no record speaks of (a folder of other programs, or of before there were records) is kept.
        """
        kept = list(kept)
        made, runs = self._read() if kept else ({}, set())
        mine = (self.name, self.weights)
        unsaid = mine if runs <= {mine} else None  # by whom a picture without a line was made
        others = [(source, made.get(key_of(source.relative), unsaid)) for source in kept]
        others = [(source, by) for source, by in others if by != mine]
        if others:
            source, by = others[0]
            whose = "other models" if by is None else _named(by, mine)
            raise ValueError(
                f"{str(self.file.parent)!r} holds results of {len(others)} of these pictures made with {whose}, for "
                f"example {str(source)!r}, and this run has {self.name!r}; choose another output folder, --overwrite "
                f"to do them again, or the same model{'' if by is None else f': --model {by[0]}'}"
            )

    def begin(self) -> None:
        """Note that this model writes here from now on."""
        self.add("")

    def add(self, image: str) -> None:
        """Note a finished picture, by its name below the folder."""
        append_csv(self.file, {"image": key_of(image), "model": self.name, "weights": self.weights})

    def _read(self) -> tuple[dict[str, tuple[str, str]], set[tuple[str, str]]]:
        """Image -> (model, weights) of its last line, and all that ever wrote here."""
        if not self.file.is_file():
            return {}, set()
        made: dict[str, tuple[str, str]] = {}
        runs: dict[tuple[str, str], tuple[str, str]] = {}  # one object a model, however many pictures there are
        with open(self.file, encoding="utf-8", errors="replace", newline="") as file:
            for row in csv.DictReader(file):
                if row["weights"]:  # None in a line that a killed run left unfinished
                    by = runs.setdefault((row["model"], row["weights"]), (row["model"], row["weights"]))
                    made[row["image"]] = by
        made.pop("", None)
        return made, set(runs)


def _named(by: tuple[str, str], mine: tuple[str, str]) -> str:
    """ "'nano'", or its weights where the names are the same."""
    return repr(by[0]) if by[0] != mine[0] else f"{by[0]!r} of other weights ({by[1][:12]}...)"
