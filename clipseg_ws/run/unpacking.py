"""Shards of results back into label PNGs, a few rows in memory at a time. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipseg_ws.files import ErrorsCsv
from clipseg_ws.output.formats.png import write_label_png
from clipseg_ws.output.palette import ignored_label
from clipseg_ws.output.save import output_paths
from clipseg_ws.output.shards import about_of, list_shards, read_shard, row_labels


def unpack_shards(
    place: str, output: str | Path, *, limit: int | None = None, confidence: float = 0.0
) -> tuple[int, int]:
    """Write ``output/NAME.png`` for every row that has a result; the others are listed in ``errors.csv``.

    Args:
        place: of ``output.shards.list_shards``. limit: rows at most.
        confidence: pixels of classes whose mean confidence in a picture is lower become 255, ignored.

    Returns how many were written and how many have no result.

    Raises:
        FileNotFoundError: no shards. InputError: what is no shard, damaged rows, names outside ``output``.
    """
    errors = ErrorsCsv(Path(output, "errors.csv"))
    errors.path.unlink(missing_ok=True)
    done = 0
    rows = ((row, where) for where in list_shards(place) for row in read_shard(where))
    names: dict[str, list[str]] = {}  # of the shard at hand
    for row, where in islice(rows, limit):
        if row["error"] is not None:
            errors.add_line(row["path"], *row["error"].split(": ", 1))
            continue
        if where not in names:
            names = {where: about_of(where)["names"]}
        (path,) = output_paths(output, row["name"], ("png",))
        write_label_png(sure_labels(row, names[where], confidence), path, classes=len(names[where]))
        done += 1
    return done, errors.count


def sure_labels(row: Mapping[str, Any], names: Sequence[str], confidence: float) -> npt.NDArray[Any]:
    """[H, W] labels of a row; classes of a lower mean confidence are ignored. Raises InputError as ``row_labels``."""
    labels = row_labels(row)
    pairs = zip(row["names"], row["confidence"], strict=True)
    unsure = [names.index(name) + 1 for name, mean in pairs if mean < confidence]
    if not unsure:
        return labels
    ignored = ignored_label(len(names))
    if ignored is None:
        raise ValueError(f"with {len(names)} classes no label means 'ignored'; leave the confidence out")
    return np.where(np.isin(labels, unsure), ignored, labels)
