"""The tables that a run leaves on disk, which several processes may write, as pandas frames of text.

Tables are small, so a run's rows are replaced under a lock and the whole file is written anew through a temporary name:
a reader, or a process that is killed at any moment, never sees half a row. Everything is read as text, exactly as it
stands there, so that what is written back keeps every digit and every empty cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from clipseg_ws.door import reading
from clipseg_ws.files import atomic_write, csv_cell
from clipseg_ws.together import locked

COLUMNS = (
    "run_id", "time", "commit", "dataset", "split", "fold", "shots", "setting", "labels_read", "method", "backbone",
    "weights", "weights_sha256", "prompts", "templates", "background", "resize", "window", "stride", "logit_scale",
    "threshold", "refine", "crf", "dtype", "device", "batch", "seed", "n_images", "n_failed", "mIoU", "pixel_accuracy",
    "fb_iou", "boundary_iou", "seconds_per_image", "images_per_second", "peak_memory_mb",
)  # fmt: skip
CLASS_COLUMNS = ("run_id", "class", "iou", "pixels")
SWEEP_COLUMNS = ("run_id", "kind", "value", "mIoU", "pixel_accuracy")
ERROR_COLUMNS = ("run_id", "id", "error")
IMAGE_COLUMNS = ("id", "iou")


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A CSV table as text, empty cells as ""; without a file an empty frame with ``columns``.

    Raises ValueError where the file's columns are not ``columns``.
    """
    if not path.is_file():
        return pd.DataFrame(columns=list(columns or ()), dtype=object)
    empty = not path.stat().st_size
    with reading(path, "a table that a run wrote", advice="use another output folder, or delete it"):
        table = pd.DataFrame() if empty else pd.read_csv(path, dtype=str, na_filter=False, index_col=False)
    if columns is not None and list(table) != list(columns):
        found, wanted = list(table), list(columns)
        raise ValueError(f"{str(path)!r} has the columns {found}; expected {wanted}: use another output folder")
    return table.astype(object)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, column -> value."""
    return [{str(column): value for column, value in row.items()} for row in table.to_dict("records")]


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> None:
    """Write a whole table: floats exactly (shortest form that reads back), None and not-a-number as an empty cell.

    Raises ValueError where a row lacks a column or has another.
    """
    table = rows if isinstance(rows, pd.DataFrame) else frame(columns, rows, path.name)
    table = table.map(_cell)
    with atomic_write(path) as temporary:
        table.to_csv(temporary, columns=list(columns), index=False, lineterminator="\n", encoding="utf-8")


def _cell(value: Any) -> Any:
    """A carriage return would end a row: pandas does not quote it."""
    shown = csv_cell(value)
    return shown.replace("\r", " ") if isinstance(shown, str) else shown


def frame(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], name: str) -> pd.DataFrame:
    """Rows as a frame whose values stay what they are. Raises ValueError where a row lacks a column or has another."""
    listed = list(rows)
    for row in listed:
        if set(row) != set(columns):
            raise ValueError(f"a row for {name} has {sorted(set(row) ^ set(columns))} too much or too little")
    return pd.DataFrame(listed, columns=list(columns), dtype=object)


def put_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], run_id: str) -> None:
    """Put ``rows`` into a table that other processes write too, in place of those of ``run_id``.

    Raises ValueError where the file has other columns or a row lacks one or has another.
    """
    with locked(path.with_name(f".{path.name}.lock")):
        there = read_table(path, columns)
        old = there["run_id"] == run_id
        place = int(old.to_numpy().argmax()) if old.any() else len(there)
        others = there[~old]
        new = frame(columns, rows, path.name)
        write_table(path, columns, pd.concat([others[:place], new, others[place:]]))
