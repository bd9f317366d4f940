"""COCO's run lengths and polygons from outside: counted before anything is allocated.

pycocotools believes sizes and counts that do not fit and ends the process; so run lengths are read here, and polygons
are handed to it only with corners near the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clipseg_ws.door.errors import InputError
from clipseg_ws.door.limits import check
from clipseg_ws.door.pictures import check_size
from clipseg_ws.values import is_number

Mask = npt.NDArray[np.uint8]
_EXAMPLE = "a COCO RLE has 'size' and 'counts', e.g. {'size': [4, 6], 'counts': [3, 21]}"


def decode_runs(code: Any, size: Sequence[int] | None = None) -> Mask:
    """[H, W] 0/1 of run lengths down the columns, a list or COCO's compressed text.

    Args:
        size: (H, W) that the code must have, where it is known.

    Raises:
        InputError: no such code, another size, more pixels than a picture may have, counts that do not add up.
    """
    if not isinstance(code, Mapping) or not {"size", "counts"} <= code.keys():
        raise InputError(_EXAMPLE)
    given = code["size"]
    if not isinstance(given, (list, tuple)) or len(given) != 2 or not all(map(is_number, given)):
        raise InputError(f"its size is {given!r:.60}; [height, width] is needed")
    width, height = check_size(given[1], given[0])
    if size is not None and (height, width) != tuple(size):
        raise InputError(f"run lengths of {[height, width]} in a picture of {list(size)} (height, width)")
    runs = _runs(code["counts"])
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise InputError(f"its counts add up to {sum(runs)}, not to {height} x {width}")
    flat = np.repeat(np.arange(len(runs), dtype=np.int64) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(width, height).T).astype(np.uint8)


def _runs(counts: Any) -> list[int]:
    if isinstance(counts, list):
        check("runs", len(counts), f"{len(counts)} run lengths")
        if not all(isinstance(run, int) and not isinstance(run, bool) for run in counts):
            raise InputError("its counts are no whole numbers")
        return counts
    if isinstance(counts, str) and counts.isascii():
        counts = counts.encode("ascii")
    if not isinstance(counts, bytes):
        raise InputError(f"its counts are {type(counts).__name__}; a list or COCO's compressed text is needed")
    check("runs", len(counts), f"{len(counts)} letters of run lengths")
    return _uncompressed(counts)


def _uncompressed(text: bytes) -> list[int]:
    """Five bits a letter, the lowest first; from the third run on differences to the last but one."""
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        bits = letter - 48
        if not 0 <= bits < 64 or shift > 40:
            raise InputError(f"its counts hold the letter {chr(letter)!r} at a place where none can stand")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise InputError("its counts end inside a number")
    return runs


def draw_polygons(pieces: Any, size: Sequence[int]) -> Mask:
    """[H, W] 0/1 of polygons [x, y, x, y, ...] in a picture of ``size`` (H, W); needs pycocotools.

    Raises InputError for what is no polygon or lies far outside, ImportError without pycocotools.
    """
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise ImportError("COCO masks need pycocotools: pip install 'clipseg_ws[coco]'") from error
    width, height = check_size(size[1], size[0])
    far = 10 * max(width, height)
    for piece in pieces:
        if not isinstance(piece, (list, tuple)) or len(piece) < 6 or len(piece) % 2:
            raise InputError(f"a polygon has at least three corners x, y; this one is {piece!r:.60}")
        if not all(is_number(value) and -far <= value <= far for value in piece):
            raise InputError(f"a corner lies far outside the picture of {width} x {height}, or is no number")
    if not pieces:
        raise InputError("it has no polygon")
    drawn: Mask = coco.decode(coco.merge(coco.frPyObjects([list(map(float, p)) for p in pieces], height, width)))
    return drawn
