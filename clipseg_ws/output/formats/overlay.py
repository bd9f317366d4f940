"""The picture with coloured classes, outlines and a legend, to look at; alone or beside the picture as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from clipseg_ws.files import atomic_write
from clipseg_ws.output.drawing import LEGENDS, draw_overlay, side_by_side
from clipseg_ws.output.palette import check_palette, colours, ignored_label, voc_palette
from clipseg_ws.output.picture import picture_of
from clipseg_ws.output.table import rows
from clipseg_ws.structures import IGNORE, Result
from clipseg_ws.values import near_miss


def write(
    result: Result, path: Path, files: Sequence[str], *, alpha: float = 0.5, outline: int = -1, palette: str = "safe",
    legend: str = "below",
) -> None:  # fmt: skip
    """``overlay`` as PNG."""
    _save(overlay(result, None, alpha, outline, palette, legend), path)


def write_sheet(
    result: Result, path: Path, files: Sequence[str], *, alpha: float = 0.5, outline: int = -1, palette: str = "safe",
    legend: str = "below",
) -> None:  # fmt: skip
    """The picture and its overlay side by side as PNG."""
    _save(side_by_side(picture_of(result), overlay(result, None, alpha, outline, palette, legend)), path)


def _save(picture: Image.Image, path: Path) -> None:
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=1)  # 4 times faster than the default, at most 1/5 larger


def overlay(
    result: Result, image: Any = None, alpha: float = 0.5, outline: int = -1, palette: str = "safe",
    legend: str = "below",
) -> Image.Image:  # fmt: skip
    """The picture with coloured classes, outlines and a legend (name, share of the pixels), RGB.

    Args:
        image: of the size of the labels, as ``picture.picture_of`` takes it. alpha: share of colour, 0 to 1.
        outline: width in pixels, 0 for none, -1 by the picture's size. palette: of ``palette.PALETTES``.
        legend: "below" the picture, which makes the result higher; "inside" it; "none".

    Raises:
        ValueError: a value that is not allowed; no picture, or one of another size.
    """
    check_look(alpha, outline, palette, legend)
    picture = picture_of(result, image)
    shades = colours(palette, max(256, int(result.labels.max()) + 1))
    entries = [(row.label, f"{_short(row.name)}  {row.share:.1%}") for row in rows(result) if row.label and row.share]
    ignored = ignored_label(len(result.names))
    if ignored is not None:
        shades[ignored] = voc_palette()[IGNORE]
        if share := float((result.labels == ignored).mean()):
            entries.append((ignored, f"(ignored)  {share:.1%}"))
    lines = entries or [(0, "no class found")]
    return draw_overlay(picture, result.labels, shades, lines, alpha=alpha, outline=outline, legend=legend)


def check_look(alpha: float, outline: int, palette: str, legend: str) -> None:
    """Raise ValueError for a value that ``overlay`` does not take."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha} must lie in [0, 1], e.g. 0.5")
    if outline < -1:
        raise ValueError(f"outline={outline} is no width; allowed: 0 for none, pixels, or -1 by the picture's size")
    if legend not in LEGENDS:
        hint = near_miss(legend, LEGENDS)
        raise ValueError(f"legend {legend!r} is unknown; {hint}choose one of {', '.join(LEGENDS)}")
    check_palette(palette)


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:37] + "..."
