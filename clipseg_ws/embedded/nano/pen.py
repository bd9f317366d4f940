"""Colours, and the pen that draws the things of the drawn scenes: unit coordinates, supersampled.

Unit coordinates: x to the right, y down, the thing fits into [-1, 1] x [-1, 1]. A ``Pen`` carries them through a
rotation and a flip onto a canvas that is ``SUPERSAMPLE`` times finer than the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLE = 3
Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]]


def jitter(rng: np.random.Generator, colour: Sequence[float], amount: float = 18.0) -> Colour:
    """A colour near ``colour`` (RGB 0..255): common brightness and separate channels both vary."""
    moved = np.asarray(colour, float) * rng.uniform(0.88, 1.1) + rng.uniform(-amount, amount, 3)
    red, green, blue = (int(value) for value in np.clip(moved, 0, 255))
    return red, green, blue


def pick(rng: np.random.Generator, colours: Sequence[Colour], amount: float = 18.0) -> Colour:
    """One of ``colours``, jittered."""
    return jitter(rng, colours[int(rng.integers(len(colours)))], amount)


def darker(colour: Sequence[float], factor: float = 0.7) -> Colour:
    """``colour`` times ``factor``, clipped to 0..255."""
    red, green, blue = (min(255, int(value * factor)) for value in colour)
    return red, green, blue


class Pen:
    """Draws unit-coordinate polygons and ellipses onto a colour canvas and a mask, both supersampled and square."""

    def __init__(self, side: float, angle: float, flip: bool, outline: bool) -> None:
        """``side``: extent of [-1, 1] in picture pixels; ``angle``: degrees; ``outline``: dark contour lines."""
        self.pixels = max(4, math.ceil(side * 1.48) + 2)  # picture pixels of the canvas: room for any rotation
        fine = self.pixels * SUPERSAMPLE
        self.colour, self.mask = Image.new("RGB", (fine, fine)), Image.new("L", (fine, fine))
        self._draw, self._cover = ImageDraw.Draw(self.colour), ImageDraw.Draw(self.mask)
        turn = math.radians(angle)
        scale, mirror = side * SUPERSAMPLE / 2, -1.0 if flip else 1.0
        rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        self._matrix = scale * rotation @ np.diag([mirror, 1.0])
        self._centre, self._scale, self._outline = fine / 2, scale, outline

    def _place(self, points: Points) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in np.asarray(points, float) @ self._matrix.T + self._centre]

    def polygon(self, points: Points, fill: Colour) -> None:
        """A filled polygon, with a darker contour where the pen draws outlines."""
        placed = self._place(points)
        self._draw.polygon(placed, fill=fill)
        self._cover.polygon(placed, fill=255)
        if self._outline:
            width = max(1, round(self._scale * 0.035))
            self._draw.line([*placed, placed[0]], fill=darker(fill, 0.5), width=width, joint="curve")
            self._cover.line([*placed, placed[0]], fill=255, width=width, joint="curve")

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour, turn: float = 0.0) -> None:
        """A filled ellipse with centre (x, y), half axes rx and ry, turned by ``turn`` radians."""
        around = np.linspace(0, 2 * math.pi, 28, endpoint=False)
        u, v = rx * np.cos(around), ry * np.sin(around)
        cos, sin = math.cos(turn), math.sin(turn)
        self.polygon(list(zip(x + cos * u - sin * v, y + sin * u + cos * v, strict=True)), fill)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """A filled rectangle between two corners."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)

    def line(self, points: Points, fill: Colour, width: float) -> None:
        """An open line, ``width`` in unit coordinates."""
        placed, thick = self._place(points), max(SUPERSAMPLE, round(width * self._scale))
        self._draw.line(placed, fill=fill, width=thick, joint="curve")
        self._cover.line(placed, fill=255, width=thick, joint="curve")
