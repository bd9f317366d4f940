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
from clipseg_ws.door import InputError, read_data, reading, regular
from clipseg_ws.door.documents import parse_json
from clipseg_ws.door.state import read_record
from clipseg_ws.files import write_text
from clipseg_ws.heads.data import Batch, Targets
from clipseg_ws.heads.features import FeatureSpec, encode_features, pixel_batch
from clipseg_ws.heads.identity import digest_of
from clipseg_ws.pictures.batching import Batching
from clipseg_ws.pictures.loading import batches_of_a_kind, load_ahead
from clipseg_ws.together import locked

DATA, INDEX, SPEC, LOCK = "tokens.bin", "index.jsonl", "spec.json", ".lock"
MOST_PATCHES = 65_535  # of a side
ADVICE = "delete the folder; the tokens are then made again"


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
            there = read_record(path, (), ADVICE)
            if differing := sorted(k for k in {*there, *made_by} if there.get(k) != made_by.get(k)):
                raise ValueError(
                    f"{str(self.folder)!r} holds tokens made with other {', '.join(differing)}; choose another folder "
                    "or delete this one"
                )
        else:
            write_text(path, json.dumps(made_by, indent=2) + "\n")
        self.made_by, self.entries = made_by, self._read_index()
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
        with locked(self.folder / LOCK, what=f"the tokens in {self.folder}"):
            return self._build(names, load, fail, batch_size)

    def _build(
        self, names: Sequence[str], load: Callable[[str], Image.Image], fail: Callable[[str, Exception], None] | None,
        batch_size: int,
    ) -> int:  # fmt: skip
        """``build`` by the only process that writes; what another has made meanwhile is read first."""
        self.entries = self._read_index()
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
            size = self._end() if self.entries else 0
            self._map = np.memmap(self.folder / DATA, np.float16, "r", shape=(size,))
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
        """The entries whose tokens are there as a whole, in their order in the file; ``_kept`` bytes of the index.

        A file of tokens that is shorter than the index says, after a full disk say, costs the entries behind its end:
        they are encoded again. Raises InputError for an index that this product did not write.
        """
        path, data = self.folder / INDEX, self.folder / DATA
        entries: dict[str, Entry] = {}
        self._kept = end = 0
        if not path.exists():
            return entries
        there = regular(data) // 2 if data.exists() else 0
        for number, line in enumerate(read_data(path).split(b"\n")[:-1], 1):  # the rest is not whole
            name, entry = _entry(line, path, number)
            if entry.offset != end:
                raise InputError(
                    "its tokens do not follow the line before", file=path, place=f"line {number}", advice=ADVICE
                )
            end += self._count(entry)
            if end > there:
                break
            entries[name] = entry
            self._kept += len(line) + 1
        return entries

    def _end(self) -> int:
        """Numbers up to the end of the last entry."""
        return max((e.offset + self._count(e) for e in self.entries.values()), default=0)

    def _cut(self) -> None:
        """Remove what lies behind the last whole entry."""
        for name, size in ((DATA, 2 * self._end()), (INDEX, self._kept)):
            path = self.folder / name
            if path.exists():
                with open(path, "r+b") as file:
                    file.truncate(size)

    def _count(self, entry: Entry) -> int:
        return self.blocks * self.width * entry.grid[0] * entry.grid[1]


def _entry(line: bytes, path: Path, number: int) -> tuple[str, Entry]:
    """(name, entry) of a line of the index. Raises InputError for another line."""
    with reading(path, "an index of tokens", place=f"line {number}", advice=ADVICE):
        row = parse_json(line)
        name, offset, (rows, columns) = row["name"], row["offset"], row["grid"]
        if not isinstance(name, str) or not all(isinstance(n, int) for n in (offset, rows, columns)):
            raise InputError("no entry of a token store")
        if not (offset >= 0 and 0 < rows <= MOST_PATCHES and 0 < columns <= MOST_PATCHES):
            raise InputError("a grid that no picture has")
        return name, Entry((rows, columns), offset)


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

    def digest(self) -> str:
        """Of the weights and sizes that make tokens, of the pictures' keys (see ``token_key``), and of the targets."""
        return digest_of(self.store.made_by, self.names, self.targets)
