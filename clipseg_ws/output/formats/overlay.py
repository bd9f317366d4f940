"""The picture with coloured classes, outlines and a legend, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from clipseg_ws.files import atomic_write
from clipseg_ws.output.palette import draw_overlay, ignored_label
from clipseg_ws.output.picture import picture_of
from clipseg_ws.output.table import rows
from clipseg_ws.pictures.written import png_note
from clipseg_ws.structures import Result


def write(result: Result, path: Path, files: Sequence[str], *, alpha: float = 0.5) -> None:
    """``overlay`` as PNG."""
    picture = overlay(result, alpha=alpha)
    with atomic_write(path) as temporary:
        # 4 times faster than the default level, at most 1/5 larger
        picture.save(temporary, format="PNG", compress_level=1, pnginfo=png_note())


def overlay(result: Result, image: Any = None, alpha: float = 0.5) -> Image.Image:
    """The picture with coloured classes, outlines and a legend (name, share of the pixels) below it, RGB.

    Args:
        image: of the size of the labels, as ``picture.picture_of`` takes it. alpha: share of colour, 0 to 1.

    Raises:
        ValueError: another alpha; no picture, or one of another size.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha} must lie in [0, 1], e.g. 0.5")
    picture = picture_of(result, image)
    entries = [(row.label, f"{_short(row.name)}  {row.share:.1%}") for row in rows(result) if row.label and row.share]
    ignored = ignored_label(len(result.names))
    if ignored is not None and (share := float((result.labels == ignored).mean())):
        entries.append((ignored, f"(ignored)  {share:.1%}"))
    return draw_overlay(picture, result.labels, entries or [(0, "no class found")], alpha)


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:37] + "..."
