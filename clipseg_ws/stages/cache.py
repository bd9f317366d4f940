"""Tokens of the last pictures, so that another method, threshold or refiner does not run the network again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from clipseg_ws.structures import Tokens


class TokenCache:
    """Least recently used tokens of single images, limited by bytes. Not safe for several threads.

    What comes out is shared with later callers, who must not change it.

    Attributes:
        runs: how often something had to be encoded; what is encoded past the cache is counted by who does it.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Tokens] = OrderedDict()
        self._bytes = 0
        self.runs = 0

    def __len__(self) -> int:
        return len(self._kept)

    def fetch(self, keys: Sequence[Hashable], encode: Callable[[list[int]], Tokens], capacity: int) -> Tokens:
        """One batch of tokens, in the order of ``keys``.

        Args:
            keys: of images that share a grid. encode: positions in ``keys`` -> their tokens, for what is missing.
            capacity: bytes kept afterwards; the batch itself is always whole.
        """
        first = {key: i for i, key in reversed(list(enumerate(keys)))}  # the same picture twice in one batch
        missing = sorted(i for key, i in first.items() if key not in self._kept)
        if missing:
            fresh = encode(missing)
            self.runs += 1
            for row, i in enumerate(missing):
                self._kept[keys[i]] = take(fresh, row)
                self._bytes += size_of(self._kept[keys[i]])
        batch = join([self._kept[key] for key in keys])
        for key in keys:
            self._kept.move_to_end(key)
        while self._bytes > capacity and self._kept:
            self._bytes -= size_of(self._kept.popitem(last=False)[1])
        return batch


def digest(pixels: Tensor) -> bytes:
    """Sixteen bytes that stand for a picture's network input [3, H, W]."""
    return hashlib.blake2b(pixels.detach().float().cpu().contiguous().numpy().tobytes(), digest_size=16).digest()


def size_of(tokens: Tokens) -> int:
    """Bytes of the tensors."""
    parts = [tokens.last_input, *tokens.layers.values(), *([] if tokens.attention is None else [tokens.attention])]
    return sum(part.numel() * part.element_size() for part in parts)


def take(tokens: Tokens, row: int) -> Tokens:
    """One image's tokens, B = 1, in their own memory (a view would keep the whole batch alive); ``last`` is dropped."""

    def pick(values: Tensor) -> Tensor:
        return values[row : row + 1].clone()

    attention = None if tokens.attention is None else pick(tokens.attention)
    return Tokens(pick(tokens.last_input), attention, {i: pick(t) for i, t in tokens.layers.items()}, tokens.grid)


def join(parts: Sequence[Tokens]) -> Tokens:
    """Tokens of images of one grid -> one batch."""
    first = parts[0]
    attention = None if first.attention is None else torch.cat([p.attention for p in parts if p.attention is not None])
    layers = {i: torch.cat([p.layers[i] for p in parts]) for i in first.layers}
    return Tokens(torch.cat([p.last_input for p in parts]), attention, layers, first.grid)
