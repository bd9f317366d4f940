"""Tokens of the last pictures, so that another method or threshold on the same picture does not encode it again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor

from clipseg_ws.structures import Tokens


class TokenCache:
    """Least recently used tokens of single images. Not safe for several threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, Tokens] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def fetch(self, keys: Sequence[Hashable], encode: Callable[[list[int]], Tokens], capacity: int) -> Tokens:
        """One batch of tokens, in the order of ``keys``.

        Args:
            keys: of images that share a grid. encode: positions in ``keys`` -> their tokens, for what is missing.
            capacity: images kept afterwards; a batch is never cut.
        """
        missing = [i for i, key in enumerate(keys) if key not in self._kept]
        if missing:
            fresh = encode(missing)
            for row, i in enumerate(missing):
                self._kept[keys[i]] = take(fresh, row)
        batch = join([self._kept[key] for key in keys])
        for key in keys:
            self._kept.move_to_end(key)
        while len(self._kept) > max(capacity, len(set(keys))):
            self._kept.popitem(last=False)
        return batch


def take(tokens: Tokens, row: int) -> Tokens:
    """One image's tokens, B = 1, in their own memory (a view would keep the whole batch alive)."""

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
