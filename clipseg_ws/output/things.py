"""What a result holds, thing by thing: boxes, outlines, run lengths, cut-outs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipseg_ws.output.items import Labels, Mask, class_masks, parts_of
from clipseg_ws.output.outlines import polygons
from clipseg_ws.output.picture import picture_of
from clipseg_ws.structures import Result


class Box(NamedTuple):
    """The smallest box around a class or an instance, in pixels, ends exclusive; ``box[:5]`` is one of ``WeakLabels``.

    Attributes:
        score: of the class in the picture, in [0, 1]; None where it has none.
    """

    name: str
    x0: int
    y0: int
    x1: int
    y1: int
    score: float | None


class Polygon(NamedTuple):
    """The exact outline of a connected region: [n, 2] corners (x, y) in pixel borders, holes cut in by bridges."""

    name: str
    corners: npt.NDArray[np.int64]


def instances_of(result: Result) -> Labels | None:
    """[H, W] int32, 0 for none, where things were told apart."""
    found: Labels | None = result.extras.get("instances")
    return found


def things(result: Result) -> Iterator[tuple[str, Mask]]:
    """(name, bool mask [H, W]) of every class that occurs, or of every instance; classes in label order."""
    instances = instances_of(result)
    for label, mask in class_masks(result.labels, result.names):
        yield from ((result.names[label - 1], part) for part in parts_of(mask, instances))


def boxes(result: Result) -> list[Box]:
    """A box a class that occurs, or an instance."""
    return [Box(name, *bounds(mask), result.scores.get(name)) for name, mask in things(result)]


def outlines(result: Result) -> list[Polygon]:
    """A polygon a 4-connected region of every class that occurs, or of every instance."""
    return [Polygon(name, corners) for name, mask in things(result) for corners in polygons(mask)]


def run_lengths_of(result: Result) -> dict[str, dict[str, Any]]:
    """Class that occurs -> COCO's compressed run lengths, JSON-able. Raises ImportError without the extra ``coco``."""
    from clipseg_ws.output.formats.coco import run_lengths

    return {result.names[label - 1]: run_lengths(mask) for label, mask in class_masks(result.labels, result.names)}


def cutout(result: Result, name: str, *, crop: bool = False) -> Image.Image:
    """RGBA: the pixels of one class, all others transparent.

    Args:
        crop: only the box around them; else of the picture's size.

    Raises:
        KeyError: a name that was not asked for. ValueError: nothing to crop, or no picture.
    """
    mask = result.mask(name)
    inside = mask[..., None]
    cut = Image.fromarray(np.concatenate([np.asarray(picture_of(result)) * inside, inside * np.uint8(255)], axis=2))
    if not crop:
        return cut
    if not mask.any():
        raise ValueError(f"{name!r} has no pixel in this picture; without crop=True the cut-out is all transparent")
    return cut.crop(bounds(mask))


def bounds(mask: Mask) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of a mask that is not empty, ends exclusive."""
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
