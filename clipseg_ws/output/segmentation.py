"""The answer that a user gets: a ``structures.Result`` that can be drawn and saved. Light; files are made on call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipseg_ws.structures import Result

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False)
class Segmentation(Result):
    """The answer for one image; attributes, ``mask``, ``shares`` and ``presence`` as in ``structures.Result``."""

    def overlay(self, image: Any = None, alpha: float = 0.5) -> Image.Image:
        """The picture with coloured classes and a legend; ``image`` replaces the kept picture (same size)."""
        from clipseg_ws.output.formats.overlay import overlay

        return overlay(self, image=image, alpha=alpha)

    def save(
        self,
        directory: str | Path,
        formats: str | Sequence[str] = ("png", "overlay", "json"),
        stem: str | None = None,
    ) -> list[Path]:
        """Write the asked files into ``directory`` (made if missing) through temporary names; returns their paths.

        ``formats``: those of one picture in ``output.formats.FORMATS``, such as "png,masks,cutout".
        """
        from clipseg_ws.output.save import save

        return save(self, Path(directory), formats=formats, stem=stem)
