"""Tokens of a data set on disk: float16, read through a memory map, written so that a killed run can go on.

``tokens.bin`` holds the pictures one after another; ``index.jsonl`` has a line a picture (name, grid), written after
its tokens; ``spec.json`` says what made them. What a killed process left behind the last whole line is cut off.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.files import write_text
from clipseg_ws.heads.data import Batch, Targets
from clipseg_ws.heads.features import FeatureSpec, encode_features, pixel_batch
from clipseg_ws.pictures.batching import Batching
from clipseg_ws.pictures.loading import batches_of_a_kind, load_ahead

DATA, INDEX, SPEC = "tokens.bin", "index.jsonl", "spec.json"


@dataclass(frozen=True)
class Entry:
    """Where a picture's tokens lie: ``offset`` in float16 numbers."""

    grid: tuple[int, int]
    offset: int


class TokenStore:
    """Open, or begin, a folder of tokens.

    Args:
        folder: made if missing. backbone, spec: what makes the tokens.

    Raises:
        ValueError: the folder holds tokens of other weights or another spec.
    """

    def __init__(self, folder: str | Path, backbone: Backbone, spec: FeatureSpec) -> None:
        self.folder, self.backbone, self.spec = Path(folder), backbone, spec
        self.blocks, self.width = spec.count, backbone.width
        made_by = {"weights_sha256": backbone.weights_sha256} | spec.as_dict()
        made_by["blocks"] = list(spec.resolved(backbone.depth))
        path = self.folder / SPEC
        if path.exists():
            there = json.loads(path.read_text("utf-8"))
            if differing := sorted(k for k in {*there, *made_by} if there.get(k) != made_by.get(k)):
                raise ValueError(
                    f"{str(self.folder)!r} holds tokens made with other {', '.join(differing)}; choose another folder "
                    "or delete this one"
                )
        else:
            write_text(path, json.dumps(made_by, indent=2) + "\n")
        self.entries = self._read_index()
        self._map: np.ndarray | None = None

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def build(
        self, names: Sequence[str], load: Callable[[str], Image.Image],
        fail: Callable[[str, Exception], None] | None = None, *, batch_size: int = 8,
    ) -> int:  # fmt: skip
        """Encode the pictures that are missing; returns how many were encoded.

        Args:
            names: keys of the pictures. load: key -> RGB picture, called by threads. fail: gets a key whose picture
                cannot be read (ValueError) and is left out; None: raised. batch_size: pictures of one grid that go
                together at most; fewer where memory runs out.
        """
        todo = [name for name in dict.fromkeys(names) if name not in self.entries]
        batching, count = Batching(batch_size), len(self.entries)
        self._cut()
        with (
            open(self.folder / DATA, "ab") as data,
            open(self.folder / INDEX, "a", encoding="utf-8") as index,
            tqdm(total=len(todo), unit="img", desc="tokens", disable=None) as bar,
        ):

            def encode(batch: Sequence[tuple[str, Tensor]]) -> None:
                tokens = encode_features(self.backbone, torch.stack([pixels for _, pixels in batch]), self.spec)
                self._append([key for key, _ in batch], tokens.half().cpu().numpy(), data, index)
                bar.update(len(batch))

            def prepare(name: str) -> Tensor:
                return pixel_batch(self.backbone, [load(name)], self.spec)[0]

            loaded = load_ahead(todo, prepare, fail, ahead=4 * batch_size)
            for batch in batches_of_a_kind(loaded, lambda pixels: pixels.shape, batch_size):
                batching.run(batch, encode)
        self._map = None
        return len(self.entries) - count

    def read(self, names: Sequence[str]) -> Tensor:
        """Tokens [B, L, D, h, w] float16 of pictures of one grid. Raises KeyError for one that is not there."""
        if self._map is None:
            self._map = np.memmap(self.folder / DATA, np.float16, "r")
        parts = []
        for name in names:
            entry = self.entries[name]
            shape = (self.blocks, self.width, *entry.grid)
            parts.append(
                torch.from_numpy(self._map[entry.offset : entry.offset + int(np.prod(shape))].reshape(shape).copy())
            )
        return torch.stack(parts)

    def _append(self, keys: Sequence[str], tokens: np.ndarray, data: Any, index: Any) -> None:
        for key, values in zip(keys, tokens, strict=True):
            entry = Entry((values.shape[-2], values.shape[-1]), data.tell() // 2)
            data.write(np.ascontiguousarray(values).tobytes())
            data.flush()  # the tokens first, then the line that says that they are there
            index.write(json.dumps({"name": key, "grid": entry.grid, "offset": entry.offset}) + "\n")
            index.flush()
            self.entries[key] = entry

    def _read_index(self) -> dict[str, Entry]:
        path = self.folder / INDEX
        entries: dict[str, Entry] = {}
        if path.exists():
            for line in path.read_bytes().split(b"\n")[:-1]:  # what follows the last line break is not whole
                row = json.loads(line)
                entries[row["name"]] = Entry(tuple(row["grid"]), row["offset"])
        return entries

    def _cut(self) -> None:
        """Remove what lies behind the last whole entry."""
        end = max((e.offset + self._count(e) for e in self.entries.values()), default=0)
        for name, size in ((DATA, 2 * end), (INDEX, None)):
            path = self.folder / name
            if path.exists():
                keep = path.read_bytes().rfind(b"\n") + 1 if size is None else size
                with open(path, "r+b") as file:
                    file.truncate(keep)

    def _count(self, entry: Entry) -> int:
        return self.blocks * self.width * entry.grid[0] * entry.grid[1]


class StoredData:
    """``HeadData`` of a store: tokens from disk, targets from memory."""

    def __init__(self, store: TokenStore, names: Sequence[str], targets: Targets) -> None:
        self.store, self.names, self.targets = store, list(names), targets
        self.grids = [store.entries[name].grid for name in self.names]
        self.blocks, self.width = store.blocks, store.width

    def batch(self, index: Sequence[int], seed: tuple[int, ...]) -> Batch:
        """Nothing is random here."""
        labels, confidence = self.targets.stacked(index)
        return Batch(self.store.read([self.names[i] for i in index]), labels, confidence, tuple(index))

    def target(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``HeadData``."""
        return self.targets.labels[index], self.targets.confidence[index]
