"""What a run leaves on disk: result tables that several processes may write, and a state from which it can go on.

Tables are small, so a run's rows are replaced under a lock and the whole file is written anew through a temporary name:
a reader, or a process that is killed at any moment, never sees half a row.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clipseg_ws.files import atomic_write

try:
    import fcntl
except ImportError:  # Windows: one process at a time
    fcntl = None  # type: ignore[assignment]

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


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file ``path`` (made if missing; freed when the process ends, also by a kill).

    Raises BlockingIOError where ``wait`` is False and another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def read_table(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, str]]:
    """Rows of a CSV table; empty where there is no file. Raises ValueError where its columns are not ``columns``."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    found = list(reader.fieldnames or ())
    if columns is not None and found != list(columns):
        raise ValueError(f"{str(path)!r} has the columns {found}; expected {list(columns)}: use another output folder")
    return rows


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a whole table. Raises ValueError where a row lacks a column or has another."""
    for row in rows:
        if set(row) != set(columns):
            raise ValueError(f"a row for {path.name} has {sorted(set(row) ^ set(columns))} too much or too little")
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: cell(value) for key, value in row.items()} for row in rows)
    with atomic_write(path) as temporary:
        temporary.write_text(text.getvalue(), "utf-8", newline="")


def put_rows(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], run_id: str) -> None:
    """Put ``rows`` into a table that other processes write too, in place of those of ``run_id``.

    Raises ValueError where the file has other columns or a row lacks one or has another.
    """
    with locked(path.with_name(f".{path.name}.lock")):
        kept = read_table(path, columns)
        place = next((i for i, row in enumerate(kept) if row["run_id"] == run_id), len(kept))
        others = [row for row in kept if row["run_id"] != run_id]
        write_table(path, columns, [*others[:place], *rows, *others[place:]])


def cell(value: Any) -> str:
    """A value as text: floats exactly (shortest form that reads back), None and not-a-number as an empty cell."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)


class Meter(Protocol):
    """Integer sums that can be saved, loaded and added: ConfusionMatrix, FewShotMeter, BoundaryIoU, ThresholdSweep."""

    def state(self) -> dict[str, np.ndarray]:
        """Arrays to save."""
        ...

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from saved arrays."""
        ...


@dataclass
class RunState:
    """How far one shard of a run has come.

    Attributes:
        meters: sums over the finished pictures. scores: id of a finished picture -> its own IoU.
        failed: id -> error. read: kinds of labels that were read.
        seconds: inside the method. total: with reading and scoring. memory: peak in MB.
        code: hash of the program that began it. finished: time at which the last picture was done, "" before.
    """

    meters: Mapping[str, Any]
    scores: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    read: set[str] = field(default_factory=set)
    seconds: float = 0.0
    total: float = 0.0
    memory: float = 0.0
    code: str = ""
    finished: str = ""

    def save(self, path: Path) -> None:
        """Write everything through a temporary name."""
        plain = {key: getattr(self, key) for key in ("failed", "seconds", "total", "memory", "code", "finished")}
        arrays = {f"{name}/{key}": value for name, meter in self.meters.items() for key, value in meter.state().items()}
        head = json.dumps(plain | {"read": sorted(self.read), "ids": list(self.scores)})
        arrays |= {"head": np.frombuffer(head.encode(), np.uint8), "scores": np.array(list(self.scores.values()))}
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())

    def load(self, path: Path) -> None:
        """Go on from a saved state, into meters of the same kinds. Raises ValueError for others."""
        with np.load(path, allow_pickle=False) as arrays:
            head = json.loads(arrays["head"].tobytes())
            for name, meter in self.meters.items():
                keys = [key for key in arrays.files if key.startswith(f"{name}/")]
                if not keys:
                    raise ValueError(f"{str(path)!r} holds no {name}; remove it or use another output folder")
                meter.load({key.split("/", 1)[1]: arrays[key] for key in keys})
            values = arrays["scores"].tolist()
        self.scores = dict(zip(head.pop("ids"), values, strict=True))
        self.read = set(head.pop("read"))
        for key, value in head.items():
            setattr(self, key, value)

    def merge(self, other: RunState) -> None:
        """Add another shard's state to this one."""
        for name, meter in self.meters.items():
            meter.merge(other.meters[name])
        self.scores |= other.scores
        self.failed |= other.failed
        self.read |= other.read
        self.seconds += other.seconds
        self.total += other.total
        self.memory = max(self.memory, other.memory)
        self.finished = max(self.finished, other.finished)
