"""Label Studio's brush masks: packed run lengths of RGBA values, a bit stream from the top bit.

32 bits number of values, 5 bits width of a value less one, four times 4 bits width of a length less one; then blocks of
1 bit (1: one value repeated; 0: as many values), 2 bits choice among the widths, the length less one, the value(s).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_DEPTH = 4  # values of a pixel


def decode_brush(data: Any, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Run lengths as a list of bytes -> bool [H, W], where the brush left colour.

    Raises ValueError for what is no such list, or one of another size.
    """
    try:
        packed = np.array(data, dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"a brush mask is a list of bytes, got {data!r:.40}") from error
    if packed.ndim != 1 or len(packed) < 7 or packed.min() < 0 or packed.max() > 255:
        raise ValueError(f"a brush mask is a list of bytes, got {data!r:.40}")
    bits = np.unpackbits(packed.astype(np.uint8))
    height, width = size
    count, word = _number(bits[:32]), _number(bits[32:37]) + 1
    widths = [_number(bits[37 + 4 * i : 41 + 4 * i]) + 1 for i in range(4)]
    if count != height * width * _DEPTH or word != 8:
        raise ValueError(f"a brush mask of {count} values of {word} bits; the picture has {height * width} pixels")
    return _values(bits, count, widths).reshape(height, width, _DEPTH)[..., _DEPTH - 1] > 0


def _values(bits: npt.NDArray[np.uint8], count: int, widths: Sequence[int]) -> npt.NDArray[np.uint8]:
    values, done, at = np.zeros(count, np.uint8), 0, 53
    while done < count:
        wide = widths[_number(bits[at + 1 : at + 3])]
        length = _number(bits[at + 3 : at + 3 + wide]) + 1
        repeated, start = bool(bits[at : at + 1].any()), at + 3 + wide
        at = start + 8 * (1 if repeated else length)
        if at > len(bits) or done + length > count:
            raise ValueError("a brush mask that ends too early")
        values[done : done + length] = np.packbits(bits[start:at])
        done += length
    return values


def _number(bits: npt.NDArray[np.uint8]) -> int:
    return int("".join(map(str, bits.tolist())) or "0", 2)
