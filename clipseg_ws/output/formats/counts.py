"""CSV of one picture: a line for the background and every class with pixels, share and score."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from clipseg_ws.files import csv_cell, write_text
from clipseg_ws.output.table import rows
from clipseg_ws.structures import Result


def write(result: Result, path: Path, files: Sequence[str]) -> None:
    """The columns label, name, pixels, share and score, in label order."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("label", "name", "pixels", "share", "score"))
    for label, name, share, score in sorted(rows(result), key=lambda row: row.label):
        pixels = int((result.labels == label).sum())
        writer.writerow((label, csv_cell(name), pixels, f"{share:.6f}", "" if score is None else score))
    write_text(path, text.getvalue())
