"""The twelve things of the drawn scenes: each a few polygons in unit coordinates, see ``Pen``, drawn antialiased."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from clipseg_ws.embedded.nano.pen import SUPERSAMPLE, Pen, darker, jitter, pick


def _house(pen: Pen, rng: np.random.Generator) -> None:
    wall = pick(rng, [(232, 214, 176), (240, 236, 226), (226, 180, 150), (205, 200, 150)])
    roof = pick(rng, [(168, 52, 42), (140, 66, 40), (196, 84, 52), (84, 78, 92)])
    door, glass = pick(rng, [(104, 62, 34), (50, 84, 60), (70, 60, 110)]), pick(rng, [(150, 200, 230), (245, 222, 130)])
    if rng.random() < 0.6:
        pen.rectangle(0.35, -0.9, 0.55, -0.35, darker(roof, 0.8))
    pen.rectangle(-0.75, -0.15, 0.75, 0.95, wall)
    ridge = [(-0.25 if rng.random() < 0.3 else 0.0, -0.95), (0.25 if rng.random() < 0.3 else 0.0, -0.95)]
    pen.polygon([(-0.98, -0.1), *ridge, (0.98, -0.1)], roof)
    pen.rectangle(-0.16, 0.35, 0.18, 0.95, door)
    for x in (-0.6, 0.32):
        pen.rectangle(x, 0.1, x + 0.3, 0.42, glass)
        pen.line([(x + 0.15, 0.1), (x + 0.15, 0.42)], darker(wall, 0.6), 0.03)


def _tree(pen: Pen, rng: np.random.Generator) -> None:
    bark, leaf = pick(rng, [(112, 74, 42), (92, 60, 40)]), pick(rng, [(38, 110, 46), (62, 138, 48), (24, 88, 56)])
    pen.polygon([(-0.11, 0.1), (0.11, 0.1), (0.16, 1.0), (-0.16, 1.0)], bark)
    if rng.random() < 0.45:  # a conifer
        for top, low, half in ((-0.1, 0.62, 0.72), (-0.55, 0.2, 0.58), (-1.0, -0.25, 0.42)):
            pen.polygon([(0, top), (half, low), (-half, low)], leaf)
        return
    for x, y, r in ((-0.42, -0.1, 0.42), (0.42, -0.1, 0.42), (-0.22, -0.5, 0.42), (0.25, -0.52, 0.42), (0, -0.2, 0.5)):
        pen.ellipse(x + rng.uniform(-0.06, 0.06), y, r, r, jitter(rng, leaf, 8))
    if rng.random() < 0.3:
        for _ in range(5):
            pen.ellipse(rng.uniform(-0.5, 0.5), rng.uniform(-0.6, 0.1), 0.07, 0.07, (200, 40, 40))


def _car(pen: Pen, rng: np.random.Generator) -> None:
    paint = pick(rng, [(206, 40, 40), (40, 90, 190), (240, 190, 40), (180, 184, 190), (50, 140, 80), (90, 50, 120)])
    glass, tyre = jitter(rng, (176, 214, 234), 10), jitter(rng, (34, 34, 38), 8)
    back = rng.uniform(-0.75, -0.5)
    pen.polygon([(back, -0.05), (back + 0.22, -0.5), (0.25, -0.5), (0.58, -0.05)], paint)
    pen.polygon([(back + 0.12, -0.06), (back + 0.28, -0.42), (-0.14, -0.42), (-0.14, -0.06)], glass)
    pen.polygon([(-0.06, -0.06), (-0.06, -0.42), (0.2, -0.42), (0.46, -0.06)], glass)
    pen.polygon([(-0.98, 0.0), (-0.9, -0.08), (0.75, -0.08), (0.98, 0.08), (0.98, 0.36), (-0.98, 0.36)], paint)
    pen.rectangle(0.84, 0.06, 0.97, 0.18, (250, 240, 170))
    for x in (-0.55, 0.55):
        pen.ellipse(x, 0.36, 0.24, 0.24, tyre)
        pen.ellipse(x, 0.36, 0.11, 0.11, (170, 170, 176))


def _boat(pen: Pen, rng: np.random.Generator) -> None:
    hull = pick(rng, [(130, 76, 40), (190, 44, 44), (40, 62, 120), (238, 238, 236)])
    sail = pick(rng, [(246, 244, 236), (240, 226, 190), (226, 96, 70)], 8)
    pen.line([(0, -0.98), (0, 0.4)], (92, 62, 40), 0.07)
    pen.polygon([(0.07, -0.92), (0.75, 0.24), (0.07, 0.24)], sail)
    if rng.random() < 0.8:
        pen.polygon([(-0.08, -0.7), (-0.08, 0.24), (-0.62, 0.24)], darker(sail, 0.9))
    pen.polygon([(-0.98, 0.36), (0.98, 0.36), (0.66, 0.86), (-0.66, 0.86)], hull)
    pen.line([(-0.88, 0.48), (0.88, 0.48)], darker(hull, 0.6), 0.06)


def _fish(pen: Pen, rng: np.random.Generator) -> None:
    body = pick(rng, [(244, 130, 40), (250, 196, 60), (70, 130, 200), (150, 160, 180), (220, 90, 120)])
    fin = darker(body, 0.78)
    pen.polygon([(-0.45, 0.0), (-0.98, -0.45), (-0.84, 0.0), (-0.98, 0.45)], fin)
    pen.polygon([(-0.25, -0.35), (0.1, -0.66), (0.35, -0.35)], fin)
    pen.polygon([(-0.1, 0.35), (-0.2, 0.62), (0.2, 0.36)], fin)
    pen.ellipse(0.2, 0, 0.76, rng.uniform(0.38, 0.48), body)
    if rng.random() < 0.6:
        stripe = (250, 250, 246) if rng.random() < 0.6 else darker(body, 0.6)
        for x in (-0.12, 0.3):
            pen.polygon([(x, -0.33), (x + 0.13, -0.35), (x + 0.13, 0.35), (x, 0.33)], stripe)
    pen.ellipse(0.66, -0.1, 0.1, 0.1, (250, 250, 250))
    pen.ellipse(0.68, -0.1, 0.05, 0.05, (20, 20, 24))


def _sun(pen: Pen, rng: np.random.Generator) -> None:
    disc = pick(rng, [(252, 206, 48), (250, 176, 36), (255, 226, 90)], 10)
    ray = jitter(rng, darker(disc, rng.uniform(0.86, 1.0)), 8)
    rays, start = int(rng.integers(8, 14)), rng.uniform(0, 1)
    for i in range(rays):
        mid, half = 2 * math.pi * (i + start) / rays, math.pi / rays * rng.uniform(0.5, 0.75)
        edge = [(0.56 * math.cos(mid + d), 0.56 * math.sin(mid + d)) for d in (-half, half)]
        pen.polygon([edge[0], (0.98 * math.cos(mid), 0.98 * math.sin(mid)), edge[1]], ray)
    pen.ellipse(0, 0, 0.6, 0.6, disc)
    if rng.random() < 0.35:  # a face
        for x in (-0.2, 0.2):
            pen.ellipse(x, -0.12, 0.06, 0.08, (120, 70, 20))
        pen.line([(-0.25, 0.15), (-0.1, 0.27), (0.1, 0.27), (0.25, 0.15)], (150, 80, 20), 0.06)


def _flower(pen: Pen, rng: np.random.Generator) -> None:
    petal = pick(rng, [(236, 110, 160), (250, 246, 246), (150, 90, 200), (222, 50, 70), (120, 150, 240)])
    heart, green = pick(rng, [(250, 206, 60), (120, 76, 40)], 10), jitter(rng, (62, 140, 60), 14)
    petals, start, stem = int(rng.integers(5, 9)), rng.uniform(0, 1), rng.random() < 0.6
    y, reach = (-0.38, 0.36) if stem else (0.0, 0.6)
    if stem:
        pen.line([(0, -0.2), (0.04, 0.4), (0, 0.98)], green, 0.1)
        pen.ellipse(0.26, 0.55, 0.28, 0.12, green, -0.6)
        pen.ellipse(-0.24, 0.7, 0.26, 0.11, green, 0.6)
    for i in range(petals):
        turn = 2 * math.pi * (i + start) / petals
        pen.ellipse(
            reach * math.cos(turn),
            y + reach * math.sin(turn),
            reach * 0.62,
            reach * min(0.5, 2.6 / petals),
            petal,
            turn,
        )
    pen.ellipse(0, y, reach * 0.46, reach * 0.46, heart)


def _mushroom(pen: Pen, rng: np.random.Generator) -> None:
    cap = pick(rng, [(206, 40, 36), (150, 94, 54), (214, 120, 50), (180, 30, 60)])
    stem = jitter(rng, (240, 230, 208), 10)
    pen.polygon([(-0.24, 0.0), (0.24, 0.0), (0.34, 0.95), (-0.34, 0.95)], stem)
    around = np.linspace(math.pi, 2 * math.pi, 18)
    height = rng.uniform(0.8, 1.0)
    pen.polygon([(0.95 * math.cos(t), 0.05 + height * math.sin(t)) for t in around] + [(0.5, 0.2), (-0.5, 0.2)], cap)
    if rng.random() < 0.8:
        for x, y, r in ((-0.5, -0.25, 0.13), (0.02, -0.5, 0.17), (0.5, -0.22, 0.14), (-0.1, -0.08, 0.1)):
            pen.ellipse(x + rng.uniform(-0.05, 0.05), y, r, r * 0.85, (250, 246, 238))


def _star(pen: Pen, rng: np.random.Generator) -> None:
    paint = pick(rng, [(250, 210, 60), (246, 232, 140), (90, 200, 210), (236, 120, 170), (200, 60, 60)])
    inner = rng.uniform(0.38, 0.5)
    tips = [(r * math.sin(math.pi * i / 5), -r * math.cos(math.pi * i / 5)) for i, r in enumerate([0.98, inner] * 5)]
    pen.polygon(tips, paint)
    if rng.random() < 0.4:
        pen.polygon([(0.55 * x, 0.55 * y) for x, y in tips], jitter(rng, darker(paint, 1.15), 6))


def _balloon(pen: Pen, rng: np.random.Generator) -> None:
    skin = pick(rng, [(224, 44, 50), (50, 110, 220), (240, 90, 170), (60, 170, 90), (250, 160, 40), (140, 80, 200)])
    bend = rng.uniform(-0.15, 0.15)
    pen.line([(0, 0.42), (bend, 0.6), (-bend, 0.8), (bend / 2, 1.0)], (210, 210, 210), 0.04)
    pen.ellipse(0, -0.3, 0.58, 0.68, skin)
    pen.polygon([(0, 0.34), (0.11, 0.5), (-0.11, 0.5)], darker(skin, 0.8))
    pen.ellipse(-0.22, -0.55, 0.1, 0.18, jitter(rng, [min(255, c * 0.5 + 130) for c in skin], 4), 0.5)


def _umbrella(pen: Pen, rng: np.random.Generator) -> None:
    first = pick(rng, [(210, 46, 56), (50, 90, 180), (240, 180, 40), (120, 60, 150), (40, 140, 130)])
    second = (246, 244, 240) if rng.random() < 0.5 else darker(first, 0.75)
    pen.line([(0, -0.95), (0, 0.7)], (80, 66, 60), 0.07)
    hook = [(0.14 - 0.14 * math.cos(t), 0.7 + 0.2 * math.sin(t)) for t in np.linspace(0, math.pi, 8)]
    pen.line(hook, (110, 70, 40), 0.09)
    panels = 4 + 2 * int(rng.integers(2))
    edge = np.linspace(-0.98, 0.98, panels + 1)
    for i in range(panels):
        left, right = float(edge[i]), float(edge[i + 1])
        arc = [(x, 0.05 - 0.85 * math.sqrt(max(0.0, 1 - (x / 0.98) ** 2))) for x in np.linspace(left, right, 6)]
        steps = (0.0, 0.25, 0.5, 0.75, 1.0)
        scallop = [(right + (left - right) * t, 0.05 - 0.1 * math.sin(math.pi * t)) for t in steps]
        pen.polygon(arc + scallop, first if i % 2 == 0 else second)


def _butterfly(pen: Pen, rng: np.random.Generator) -> None:
    wing = pick(rng, [(240, 140, 30), (70, 110, 220), (250, 210, 70), (200, 70, 160), (110, 190, 90)])
    spot = pick(rng, [(250, 246, 230), (40, 34, 50), (250, 220, 90)], 8)
    for side in (-1.0, 1.0):
        pen.ellipse(side * 0.5, 0.42, 0.4, 0.3, darker(wing, 0.85), side * 0.7)
        pen.ellipse(side * 0.54, -0.32, 0.52, 0.36, wing, -side * 0.6)
        pen.ellipse(side * 0.62, -0.4, 0.16, 0.14, spot)
        pen.ellipse(side * 0.5, 0.44, 0.12, 0.1, spot)
        pen.line([(0, -0.45), (side * 0.18, -0.85)], (40, 34, 34), 0.04)
    pen.ellipse(0, 0.02, 0.09, 0.55, jitter(rng, (50, 40, 38), 8))


@dataclass(frozen=True)
class Kind:
    """How one kind is drawn: its painter and the largest rotation (degrees) to either side."""

    paint: Callable[[Pen, np.random.Generator], None]
    turn: float


PAINTERS: dict[str, Kind] = {
    "house": Kind(_house, 25), "tree": Kind(_tree, 25), "car": Kind(_car, 30), "boat": Kind(_boat, 25),
    "fish": Kind(_fish, 60), "sun": Kind(_sun, 180), "flower": Kind(_flower, 40), "mushroom": Kind(_mushroom, 35),
    "star": Kind(_star, 180), "balloon": Kind(_balloon, 30), "umbrella": Kind(_umbrella, 40),
    "butterfly": Kind(_butterfly, 60),
}  # fmt: skip


def draw_thing(kind: str, side: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One thing of about ``side`` picture pixels: (colour float32 [n, n, 3] 0..255, cover float32 [n, n] 0..1).

    Rotation, flip, colours, outline and shading come from ``rng``. Raises KeyError for an unknown kind.
    """
    if kind not in PAINTERS:
        raise KeyError(f"unknown kind {kind!r}; choose from {', '.join(PAINTERS)}, e.g. 'house'")
    recipe = PAINTERS[kind]
    pen = Pen(side, float(rng.uniform(-recipe.turn, recipe.turn)), bool(rng.random() < 0.5), bool(rng.random() < 0.5))
    recipe.paint(pen, rng)
    cover = np.asarray(pen.mask.reduce(SUPERSAMPLE), np.float32) / 255
    fine = np.asarray(pen.colour, np.float32) * (np.asarray(pen.mask)[..., None] > 0)
    n = pen.pixels  # [n*s, n*s, 3] -> mean over the s x s cells -> [n, n, 3]; divided by the cover: colour of the thing
    mean = fine.reshape(n, SUPERSAMPLE, n, SUPERSAMPLE, 3).mean((1, 3)) / np.maximum(cover, 1 / 9)[..., None]
    along = np.linspace(-1, 1, n, dtype=np.float32)
    light = 1 + rng.uniform(-0.14, 0.14) * along[:, None] + rng.uniform(-0.1, 0.1) * along[None, :]
    grain = rng.normal(0, 4.0, (n, n, 1)).astype(np.float32)
    return np.clip(mean * light[..., None] + grain, 0, 255), cover
