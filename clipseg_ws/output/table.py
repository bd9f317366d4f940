"""What was found, in numbers: rows of classes with their share of the picture and their score."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clipseg_ws.structures import Result


class Row(NamedTuple):
    """A class of a result: label, name, share of the pixels in [0, 1], image-level score (None where it has none)."""

    label: int
    name: str
    share: float
    score: float | None


def rows(result: Result) -> list[Row]:
    """Classes by falling share (equal ones in label order), background last."""
    counts = np.bincount(result.labels.ravel(), minlength=len(result.names) + 1) / result.labels.size
    found = [Row(i + 1, name, float(counts[i + 1]), result.scores.get(name)) for i, name in enumerate(result.names)]
    return [*sorted(found, key=lambda row: -row.share), Row(0, "background", float(counts[0]), None)]


def format_table(result: Result) -> str:
    """Plain text table: class, share of the pixels, image score. Beyond 20 names only classes that occur are listed."""
    known = rows(result)
    shown = [row for row in known if len(result.names) <= 20 or row.share or row.label == 0]
    cells = [("class", "pixels", "score")]
    cells += [(row.name, f"{row.share:.1%}", "-" if row.score is None else f"{row.score:.3f}") for row in shown]
    wide = [max(len(cell[column]) for cell in cells) for column in range(3)]
    lines = [f"{name:<{wide[0]}}  {share:>{wide[1]}}  {score:>{wide[2]}}" for name, share, score in cells]
    if len(shown) < len(known):
        lines.append(f"({len(known) - len(shown)} more names do not occur)")
    return "\n".join(lines)
