"""What of a run can be said without its model: where results go and what they answer. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from clipseg_ws.output.answers import question_digest
from clipseg_ws.pictures.sources import Source, is_url
from clipseg_ws.run.asked import labels_digest
from clipseg_ws.structures import WeakLabels

Tags = Callable[[Source], Sequence[str]]
Weak = Callable[[Source], WeakLabels]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Where the results of a run go and which question they answer.

    Attributes: as the arguments of ``run_folder``; ``directory`` is absolute. ``root``: absolute folder to which the
        pictures' paths are relative. ``content``: of the question (``asked.content_of``). ``also``: what ``finish``
        writes besides.
    """

    directory: Path
    formats: Sequence[str]
    tags: Tags | None = None
    weak: Weak | None = None
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


def names_in(tags: Tags, sources: Sequence[Source]) -> list[list[str]]:
    """The names that occur in tags, for ``Segmenter.ask(tags=...)``; what cannot be read fails in its turn."""
    found: list[str] = []
    for source in sources:
        try:
            found += tags(source)
        except ValueError:
            continue
    return [found]
