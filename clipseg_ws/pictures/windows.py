"""Sliding windows over a picture, and their maps stitched together again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch


def window_boxes(size: tuple[int, int], crop: int, stride: int) -> list[tuple[int, int, int, int]]:
    """Sliding windows (y0, y1, x0, x1) over a picture of ``size`` (H, W), ends exclusive, row by row.

    The last window of a row or column is moved back to the border; a side shorter than ``crop`` gives a window of that
    length. The rule of SCLIP, ClearCLIP and NACLIP.
    """
    if not 1 <= stride <= crop or min(size) < 1:
        raise ValueError(f"need 1 <= stride <= crop and a size >= 1, got stride={stride}, crop={crop}, size={size}")

    def spans(length: int) -> list[tuple[int, int]]:
        ends = [min(i * stride + crop, length) for i in range(max(length - crop + stride - 1, 0) // stride + 1)]
        return [(max(end - crop, 0), end) for end in ends]

    return [(y0, y1, x0, x1) for y0, y1 in spans(size[0]) for x0, x1 in spans(size[1])]


def stitch(
    windows: Iterable[torch.Tensor], boxes: Sequence[tuple[int, int, int, int]], size: tuple[int, int]
) -> torch.Tensor:
    """Mean over overlapping windows: n maps [B,T,ch,cw] (or one tensor [n,B,T,ch,cw]) of ``boxes`` -> [B,T,H,W].

    Summed in float32 at least; the result has the windows' dtype and device. Windows may be a generator: one at a time
    is held.

    Raises:
        ValueError: a window that does not fit its box, more or fewer windows than boxes, or a pixel no box covers.
    """
    total, dtype, used = None, torch.float32, 0
    count = torch.zeros(size)
    for window, (y0, y1, x0, x1) in zip(windows, boxes, strict=True):
        if tuple(window.shape[-2:]) != (y1 - y0, x1 - x0) or window.ndim != 4:
            raise ValueError(f"window {used} is {list(window.shape)}, its box needs [B,T,{y1 - y0},{x1 - x0}]")
        if total is None:
            dtype = window.dtype
            wide = torch.promote_types(dtype, torch.float32)
            total = torch.zeros(*window.shape[:2], *size, dtype=wide, device=window.device)
        total[:, :, y0:y1, x0:x1] += window
        count[y0:y1, x0:x1] += 1
        used += 1
    if total is None or not count.all():
        raise ValueError(f"{used} windows leave {int((count == 0).sum())} of {size[0]} x {size[1]} pixels uncovered")
    return (total / count.to(total)).to(dtype)
