"""Several looks at one picture: other sizes and its mirror image, whose maps are brought together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from clipseg_ws.activations.multiscale import agree, mirror
from clipseg_ws.config import Config
from clipseg_ws.stages.maps import ClassMaps
from clipseg_ws.weak.constraints import Constraints

Look = Callable[[float, bool, Tensor | None], ClassMaps]  # (scale, mirrored, known classes or None) -> maps


def scaled(picture: Image.Image, grid: tuple[int, int], patch: int, scale: float, mirrored: bool) -> Image.Image:
    """The picture for a look: whole patches, ``scale`` times its usual ``grid`` (h, w) in each direction.

    The size follows from the grid alone, so that pictures that share a batch share it at every scale.
    """
    if scale != 1.0:
        rows, columns = (max(1, round(side * scale)) for side in grid)
        picture = picture.convert("RGB").resize((columns * patch, rows * patch), Image.Resampling.BICUBIC)
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture


def wanted_looks(config: Config) -> list[tuple[float, bool]]:
    """(scale, mirrored) of every look that the configuration asks for."""
    return [(scale, mirrored) for scale in config.scales for mirrored in ((False, True) if config.flip else (False,))]


def all_looks(look: Look, known: Tensor | None, config: Config) -> ClassMaps:
    """Maps of the picture as it is, or of all its sizes and its mirror images brought together.

    The first look (size 1, not mirrored) decides which classes are there, their scores and the background.
    """
    first = look(1.0, False, known)
    wanted = wanted_looks(config)
    more = [pair for pair in wanted if pair != (1.0, False)]
    if not more or not first.maps.shape[1]:
        return first
    present = torch.zeros_like(first.scores, dtype=torch.bool)
    for row, members in enumerate(first.classes):
        present[row, members] = True
    looks = [first.maps] if (1.0, False) in wanted else []
    for scale, mirrored in more:
        maps = look(scale, mirrored, present).maps
        looks.append(mirror(maps) if mirrored else maps)
    rows, columns = (max(maps.shape[axis] for maps in looks) for axis in (-2, -1))
    return replace(first, maps=agree(looks, (rows, columns), doubt=config.doubt))


def mirrored_marks(marks: Sequence[Constraints] | None) -> list[Constraints] | None:
    """Weak labels as they lie in the mirrored pictures."""
    return None if marks is None else [_mirrored(mark) for mark in marks]


def _mirrored(mark: Constraints) -> Constraints:
    width = mark.seed.shape[-1]
    boxes = tuple((label, width - x1, y0, width - x0, y1) for label, x0, y0, x1, y1 in mark.boxes)
    return Constraints(mirror(mark.allow), mirror(mark.seed), boxes, mark.present)
