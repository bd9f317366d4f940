"""Colours of labels: VOC's, which label PNGs keep, and others for looking at, which colour-blind people tell apart."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from clipseg_ws.structures import IGNORE
from clipseg_ws.values import near_miss

Colours = npt.NDArray[np.uint8]
PALETTES = ("safe", "voc")
# Okabe and Ito, "Color Universal Design", 2008, without black
_FIRST = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
# linear RGB as people without long, middle and short cones see it: Machado et al., IEEE TVCG 2009, severity 1
_SEEN = np.array([
    np.eye(3),
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
])  # fmt: skip
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_STEPS = (0, 48, 96, 144, 192, 240)  # values of a channel among which further colours are looked for


def colours(palette: str = "safe", size: int = 256) -> Colours:
    """[size, 3] uint8, one colour a label, by the palette's name. Raises ValueError for an unknown name."""
    check_palette(palette)
    return safe_palette(size) if palette == "safe" else voc_palette(size)


def check_palette(palette: str) -> None:
    """Raise ValueError for a name that is none of ``PALETTES``."""
    if palette not in PALETTES:
        hint = near_miss(palette, PALETTES)
        raise ValueError(f"palette {palette!r} is unknown; {hint}choose one of {', '.join(PALETTES)}")


def voc_palette(size: int = 256) -> Colours:
    """[size, 3] uint8 colours of PASCAL VOC: the bits of the label, three at a time, fill R, G, B from the top bit.

    Label 0 is black, 1 (128, 0, 0), 255 (224, 224, 192). The first 256 are the official palette; the same rule goes on
    behind them.
    """
    labels = np.arange(size)
    made = np.zeros((size, 3), dtype=np.uint8)
    for step in range(8):
        for channel in range(3):
            bit = (labels >> (3 * step + channel)) & 1
            made[:, channel] |= (bit << (7 - step)).astype(np.uint8)
    return made


def safe_palette(size: int = 256) -> Colours:
    """[size, 3] uint8: black, the seven colours of Okabe and Ito, then each the farthest from all before it.

    Far as people with normal vision and without one kind of cones see it, whoever sees it worst. After some 220 colours
    they come again.
    """
    made = _far_apart()
    return np.concatenate([made[:1], made[1:][np.arange(max(size - 1, 0)) % (len(made) - 1)]])[:size]


@cache
def _far_apart() -> Colours:
    """Black, then all colours of ``_FIRST`` and of the grid of ``_STEPS``, in the order of ``safe_palette``."""
    grid = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS, indexing="ij"), -1).reshape(-1, 3)
    pool = np.concatenate([[(0, 0, 0)], _FIRST, grid[1:]]).astype(np.uint8)
    seen = seen_by(pool)
    order = list(range(1 + len(_FIRST)))
    nearest = np.stack([_distance(seen, place) for place in order]).min(0)
    while nearest.max() > 0:
        order.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distance(seen, order[-1]))
    return pool[order]


def seen_by(rgb: Colours) -> npt.NDArray[np.float64]:
    """[4, n, 3] CIE L*a*b* of [n, 3] sRGB as seen with normal vision, and without long, middle and short cones."""
    share = rgb / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = np.clip(linear @ _SEEN.transpose(0, 2, 1), 0, 1) @ _XYZ.T / _XYZ.sum(1)
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _distance(seen: npt.NDArray[np.float64], place: int) -> npt.NDArray[np.float64]:
    """[n]: how far one colour lies from all, for the eyes that tell them apart worst."""
    distance: npt.NDArray[np.float64] = np.linalg.norm(seen - seen[:, place : place + 1], axis=-1).min(0)
    return distance


def ignored_label(classes: int) -> int | None:
    """255 where it means "ignored"; None from 255 classes on, where it is an ordinary label."""
    return IGNORE if classes < IGNORE else None
