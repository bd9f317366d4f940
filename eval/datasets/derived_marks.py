"""Weak marks derived from masks, deterministic: boxes, points and scribbles of a picture whose mask is known.

For data without official marks. Every connected region (8 neighbours) of a class counts as one object; regions under
``MIN_SHARE`` of the picture are left out unless they are the largest of their class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

MIN_SHARE = 0.0005
STROKE_NODES = 5
STROKE_WIDTH = 3


def tags(labels: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes in ``labels`` [H, W] (0 background, i+1 = ``names[i]``, 255 ignored), in label order."""
    present = set(np.unique(labels).tolist())
    return tuple(name for i, name in enumerate(names) if i + 1 in present)


def regions(labels: np.ndarray, values: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """(label, mask [H, W] bool) of every region that counts, label by label, in reading order."""
    for value in values:
        parts, count = ndimage.label(labels == value, structure=np.ones((3, 3)))
        areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        for i, area in enumerate(areas):
            if area >= MIN_SHARE * labels.size or area == areas.max():
                yield value, parts == i + 1


def boxes(labels: np.ndarray, names: Sequence[str]) -> tuple[tuple[str, float, float, float, float], ...]:
    """(name, x0, y0, x1, y1), ends exclusive, one box a region."""
    out: list[tuple[str, float, float, float, float]] = []
    for value, mask in regions(labels, range(1, len(names) + 1)):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        x0, y0, x1, y1 = (float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        out.append((names[value - 1], x0, y0, x1, y1))
    return tuple(out)


def _depth(mask: np.ndarray) -> np.ndarray:
    """[H, W] distance of every pixel of ``mask`` to the outside; the picture's edge is outside."""
    depth: np.ndarray = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return depth


def points(labels: np.ndarray, names: Sequence[str]) -> tuple[tuple[str, float, float], ...]:
    """(name, x, y): the innermost pixel of every region."""
    out = []
    for value, mask in regions(labels, range(1, len(names) + 1)):
        y, x = np.unravel_index(_depth(mask).argmax(), mask.shape)
        out.append((names[value - 1], float(x), float(y)))
    return tuple(out)


def scribbles(labels: np.ndarray, classes: int) -> np.ndarray:
    """[H, W] uint8 strokes: 0 in the background, i+1 in class i, 255 unmarked; one stroke a region, never outside it.

    A stroke joins the innermost pixels of five slices across the region's longest direction by straight lines.
    """
    out = np.full(labels.shape, 255, np.uint8)
    for value, mask in regions(labels, range(classes + 1)):
        out[_stroke(mask)] = value
    return out


def _stroke(mask: np.ndarray) -> np.ndarray:
    """[H, W] bool: the stroke of one region."""
    pixels = np.argwhere(mask)  # [P, 2] of (y, x)
    centred = pixels - pixels.mean(0)
    direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    along = centred @ direction
    depth = _depth(mask)[mask]
    cuts = np.linspace(along.min(), along.max(), STROKE_NODES + 1)
    piece = np.clip(np.searchsorted(cuts, along, side="right") - 1, 0, STROKE_NODES - 1)
    nodes = [pixels[piece == i][depth[piece == i].argmax()] for i in range(STROKE_NODES) if (piece == i).any()]
    line = np.zeros(mask.shape, bool)
    for start, end in zip(nodes, nodes[1:] or nodes, strict=False):
        steps = int(np.abs(end - start).max()) + 1
        ys, xs = np.rint(np.linspace(start, end, steps)).astype(int).T
        line[ys, xs] = True
    thick: np.ndarray = ndimage.binary_dilation(line, np.ones((STROKE_WIDTH, STROKE_WIDTH)))
    return np.asarray(thick & mask)
