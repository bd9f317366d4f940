"""Marks written for a picture of one size, on the picture as it is: scaled, turned as its EXIF says, or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from clipseg_ws.weak.readers.forms import Box, Drawn, around

Size = tuple[int, int]  # (H, W)
Point = tuple[float, float]  # (x, y)
Move = Callable[[Point], Point]
# EXIF orientation -> where a corner (x, y) in [0, 1] of the stored picture lies in the upright one
_UPRIGHT: dict[int, Move] = {
    2: lambda p: (1 - p[0], p[1]),
    3: lambda p: (1 - p[0], 1 - p[1]),
    4: lambda p: (p[0], 1 - p[1]),
    5: lambda p: (p[1], p[0]),
    6: lambda p: (1 - p[1], p[0]),
    7: lambda p: (1 - p[1], 1 - p[0]),
    8: lambda p: (p[1], 1 - p[0]),
}


def same_aspect(one: Size, two: Size) -> bool:
    """Whether one size is the other scaled, sides rounded to whole pixels."""
    error = abs(one[0] * two[1] - one[1] * two[0])
    return error <= max(sum(one), sum(two)) / 2 and error <= 0.02 * min(one[0] * two[1], one[1] * two[0])


def on_picture(drawn: Drawn, size: Size, orientation: int, where: str) -> tuple[Drawn, str]:
    """Marks in pixels of the upright picture, and what was done to them ("" for nothing).

    Args:
        size: (H, W) of the upright picture. orientation: its EXIF tag, 1 for none. where: for errors.

    Raises:
        ValueError: the file was written for a picture of another aspect; names both sizes.
    """
    stated = drawn.size
    frame = (100, 100) if drawn.percent else stated
    if stated is None or stated == size:
        return _moved(drawn, frame, size, lambda p: p), ""
    if same_aspect(stated, size):
        said = "" if drawn.percent else f"scaled from {stated[1]}x{stated[0]} to {size[1]}x{size[0]} pixels"
        return _moved(drawn, frame, size, lambda p: p), said
    if orientation in (5, 6, 7, 8) and same_aspect(stated, size[::-1]):
        return _moved(drawn, frame, size, _UPRIGHT[orientation]), "turned upright as the picture's EXIF says"
    raise ValueError(
        f"{where}: the labels were made for a picture of {stated[1]}x{stated[0]} pixels, this one has "
        f"{size[1]}x{size[0]}; the same picture in another size is scaled, a cut or turned one is not"
    )


def _moved(drawn: Drawn, frame: Size | None, size: Size, upright: Move) -> Drawn:
    if frame is None or (frame == size and upright((0.0, 0.25)) == (0.0, 0.25)):
        return replace(drawn, size=size, percent=False)
    height, width = frame

    def move(point: Point) -> Point:
        x, y = upright((point[0] / width, point[1] / height))
        return round(x * size[1], 6), round(y * size[0], 6)

    def box(given: Box) -> Box:
        return around(given[0], [move((given[1], given[2])), move((given[3], given[4]))])

    marks = replace(
        drawn.marks,
        boxes=tuple(box(b) for b in drawn.marks.boxes),
        points=tuple((name, *move((x, y))) for name, x, y in drawn.marks.points),
    )
    lines = tuple((name, tuple(move(corner) for corner in corners)) for name, corners in drawn.lines)
    return Drawn(marks, lines, size)


def check_inside(drawn: Drawn, size: Size, where: str) -> None:
    """Raise ValueError for a box that lies outside the picture altogether."""
    for name, x0, y0, x1, y1 in drawn.marks.boxes:
        if x1 < 0 or y1 < 0 or x0 >= size[1] or y0 >= size[0]:
            raise ValueError(
                f"{where}: the box {x0:g}, {y0:g}, {x1:g}, {y1:g} of {name!r} lies outside the picture of "
                f"{size[1]}x{size[0]} pixels"
            )
