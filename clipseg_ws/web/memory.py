"""A backbone that remembers its last answers, so that another threshold, method or refiner does not run it again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.stages.token_cache import join, take
from clipseg_ws.structures import Tokens

CAPACITY = 400_000_000  # bytes of tokens and attention that are kept


class RememberingBackbone(OpenClipBackbone):
    """The same weights; ``encode`` looks its pixels up first: whole pictures, windows and support pictures.

    Args:
        backbone: what is wrapped; nothing is copied. capacity: bytes kept, the longest unused go first.

    Attributes:
        runs: how often the network really ran, shared by all ``with_positions`` twins.
    """

    def __init__(self, backbone: OpenClipBackbone, capacity: int = CAPACITY) -> None:
        self.__dict__.update(backbone.__dict__)
        self._memory: OrderedDict[Any, Tokens] = OrderedDict()
        self._counts = {"runs": 0, "bytes": 0}
        self._capacity = capacity

    @property
    def runs(self) -> int:
        """Passes through the network so far."""
        return self._counts["runs"]

    def encode(self, pixels: Tensor, *, attention_blocks: int = 8, keep_layers: Sequence[int] = ()) -> Tokens:
        """As ``OpenClipBackbone.encode``, picture by picture: only those that are not remembered go through.

        What comes out is shared with later callers, who must not change it.
        """
        how = (tuple(pixels.shape[1:]), self.position_interpolation, attention_blocks, tuple(keep_layers))
        keys = [(_digest(picture), *how) for picture in pixels]
        missing = [i for i, key in enumerate(keys) if key not in self._memory]
        if missing:
            fresh = super().encode(pixels[missing], attention_blocks=attention_blocks, keep_layers=keep_layers)
            self._counts["runs"] += 1
            for row, i in enumerate(missing):
                if keys[i] not in self._memory:  # the same picture twice in one batch
                    self._memory[keys[i]] = take(fresh, row)
                    self._counts["bytes"] += _size(self._memory[keys[i]])
        for key in keys:
            self._memory.move_to_end(key)
        tokens = join([self._memory[key] for key in keys])
        while self._counts["bytes"] > self._capacity and len(self._memory) > 1:
            self._counts["bytes"] -= _size(self._memory.popitem(last=False)[1])
        return tokens


def _digest(pixels: Tensor) -> bytes:
    return hashlib.blake2b(pixels.detach().float().cpu().contiguous().numpy().tobytes(), digest_size=16).digest()


def _size(tokens: Tokens) -> int:
    """Bytes of the tensors."""
    parts = [tokens.last_input, *tokens.layers.values(), *([] if tokens.attention is None else [tokens.attention])]
    return sum(part.numel() * part.element_size() for part in parts)
