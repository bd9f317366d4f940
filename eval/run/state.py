"""How far a run has come: sums that can be saved at any moment, loaded again and added up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.door import InputError, reading
from clipseg_ws.door.documents import parse_json
from clipseg_ws.door.state import checked_archive
from clipseg_ws.files import write_arrays

PLAIN = ("failed", "seconds", "total", "memory", "code", "finished")


@dataclass
class RunState:
    """How far one shard of a run has come.

    Attributes:
        meters: integer sums over the finished pictures, with ``state``, ``load`` and ``merge``.
        scores: id of a finished picture -> its own IoU.
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
        plain = {key: getattr(self, key) for key in PLAIN}
        arrays = {f"{name}/{key}": value for name, meter in self.meters.items() for key, value in meter.state().items()}
        head = json.dumps(plain | {"read": sorted(self.read), "ids": list(self.scores)})
        arrays |= {"head": np.frombuffer(head.encode(), np.uint8), "scores": np.array(list(self.scores.values()))}
        write_arrays(path, arrays)

    def load(self, path: Path) -> None:
        """Go on from a saved state, into meters of the same kinds. Raises ValueError for others."""
        with reading(path, "the state of a run", advice="delete it; its pictures are then done again"):
            self._load(path)

    def _load(self, path: Path) -> None:
        checked_archive(path)
        with np.load(path, allow_pickle=False) as arrays:
            head = parse_json(arrays["head"].tobytes())
            for name, meter in self.meters.items():
                keys = [key for key in arrays.files if key.startswith(f"{name}/")]
                if not keys:
                    raise ValueError(f"{str(path)!r} holds no {name}; remove it or use another output folder")
                meter.load({key.split("/", 1)[1]: arrays[key] for key in keys})
            values = arrays["scores"].tolist()
        self.scores = dict(zip(head.pop("ids"), values, strict=True))
        self.read = set(head.pop("read"))
        for key in PLAIN:
            value, kind = head[key], type(getattr(self, key))
            if not isinstance(value, (int, float) if kind is float else kind):
                raise InputError(f"its {key} is {type(value).__name__}", file=path)
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
