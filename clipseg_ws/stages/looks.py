"""Several looks at one picture: other sizes and its mirror image, whose maps are brought together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image
from torch import Tensor

from clipseg_ws.activations.multiscale import agree, mirror
from clipseg_ws.config import Config
from clipseg_ws.stages.classmaps import ClassMaps
from clipseg_ws.weak.constraints import Constraints

Look = tuple[float, bool]  # scale, mirrored
AS_IT_IS: Look = (1.0, False)


def scaled(picture: Image.Image, grid: tuple[int, int], patch: int, scale: float, mirrored: bool) -> Image.Image:
    """The picture for a look: whole patches, ``scale`` times its usual ``grid`` (h, w) in each direction.

    The size follows from the grid alone, so that pictures that share a batch share it at every scale.
    """
    if scale != 1.0:
        rows, columns = (max(1, round(side * scale)) for side in grid)
        picture = picture.convert("RGB").resize((columns * patch, rows * patch), Image.Resampling.BICUBIC)
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else picture


def wanted_looks(config: Config) -> list[Look]:
    """Every look that the configuration asks for."""
    given = config.step("looks")
    if given is None:
        return [AS_IT_IS]
    sides = (False, True) if given["flip"] else (False,)
    return [(scale, mirrored) for scale in given["scales"] for mirrored in sides]


def all_looks(look: Callable[[Look, Tensor | None], ClassMaps], known: Tensor | None, config: Config) -> ClassMaps:
    """Maps of the picture as it is, or of all its sizes and its mirror images brought together.

    The first look (size 1, not mirrored) decides which classes are there, their scores and the background.

    Args:
        look: (look, known classes [B, C] or None) -> maps.
    """
    first = look(AS_IT_IS, known)
    wanted = wanted_looks(config)
    more = [one for one in wanted if one != AS_IT_IS]
    if not more or not first.maps.shape[1]:
        return first
    looks = [first.maps] if AS_IT_IS in wanted else []
    present = first.present()
    for one in more:
        maps = look(one, present).maps
        looks.append(mirror(maps) if one[1] else maps)
    rows, columns = (max(maps.shape[axis] for maps in looks) for axis in (-2, -1))
    given = config.step("looks") or {}
    return replace(first, maps=agree(looks, (rows, columns), doubt=given.get("doubt", 0.0)))


def mirrored_marks(marks: Sequence[Constraints] | None) -> tuple[Constraints, ...] | None:
    """Weak labels as they lie in the mirrored pictures."""
    return None if marks is None else tuple(_mirrored(mark) for mark in marks)


def _mirrored(mark: Constraints) -> Constraints:
    width = mark.seed.shape[-1]
    boxes = tuple((label, width - x1, y0, width - x0, y1) for label, x0, y0, x1, y1 in mark.boxes)
    return Constraints(mirror(mark.allow), mirror(mark.seed), boxes, mark.present)
