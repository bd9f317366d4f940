"""The curve of a training: ``log.csv`` and TensorBoard events, continued where a killed run was resumed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from clipseg_ws.door import read_text, reading
from clipseg_ws.heads import LOSSES

COLUMNS = ("step", "loss", *LOSSES, "other", "lr", "miou", "seconds")


class Logs:
    """Rows of a training, written as they come.

    Args:
        folder: of ``log.csv`` and ``events/``; None: nothing is written. history: the rows up to the checkpoint that
            the training goes on from; what the file holds beyond them is done again and dropped.
    """

    def __init__(
        self, folder: Path | None, history: Sequence[Mapping[str, float]], *, tensorboard: bool = True
    ) -> None:
        self.folder, self.history, self.tensorboard = folder, history, tensorboard
        self._file: Any = None
        self._events: Any = None
        self._before = 0.0

    def __enter__(self) -> Logs:
        if self.folder is None:
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "log.csv"
        last = self.history[-1]["step"] if self.history else 0
        kept = [row for row in _rows(path) if int(row["step"]) <= last]
        self._before = float(kept[-1]["seconds"]) if kept else 0.0
        self._file = open(path, "w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS, restval="")
        self._writer.writeheader()
        self._writer.writerows(kept)
        self._file.flush()
        if self.tensorboard and find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._events = SummaryWriter(str(self.folder / "events"), purge_step=int(last) + 1)
        return self

    def add(self, row: Mapping[str, float], seconds: float) -> None:
        """One step. Terms without a column of their own are summed as "other"."""
        if self._file is None:
            return
        known = {k: v for k, v in row.items() if k in COLUMNS}
        if rest := [v for k, v in row.items() if k not in COLUMNS]:
            known["other"] = sum(rest)
        cells = {k: repr(v) if isinstance(v, float) else v for k, v in known.items()}
        self._writer.writerow(cells | {"seconds": f"{self._before + seconds:.2f}"})
        self._file.flush()
        if self._events is not None:
            for key, value in row.items():
                if key != "step":
                    self._events.add_scalar(key, value, int(row["step"]))

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._events is not None:
            self._events.close()


def _rows(path: Path) -> list[dict[str, str]]:
    """Whole rows of an earlier log."""
    if not path.exists():
        return []
    with reading(path, "the log of a training", advice="delete it; the curve then begins anew"):
        rows = list(csv.DictReader(io.StringIO(read_text(path).replace("\0", ""), newline="")))
    return [row for row in rows if _is_whole(row)]


def _is_whole(row: Mapping[str, str]) -> bool:
    try:
        return int(row["step"]) >= 0 and float(row["seconds"]) >= 0
    except (KeyError, ValueError, TypeError):
        return False
