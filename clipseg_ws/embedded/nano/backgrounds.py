"""The grounds that drawn scenes stand on: each a texture with variation, painted with numpy (and PIL for strokes)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from clipseg_ws.embedded.nano.pen import jitter


def cloudiness(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise float32 [H, W] in about 0..1 with ``cells`` bumps along the shorter side."""
    unit = min(height, width) / cells
    coarse = rng.random((max(2, round(height / unit)), max(2, round(width / unit)))).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def blend(low: tuple[int, ...], high: tuple[int, ...], mix: np.ndarray) -> np.ndarray:
    """Colours float32 [H, W, 3] between ``low`` (mix 0) and ``high`` (mix 1); mix float [H, W]."""
    start, end = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return start + mix[..., None].astype(np.float32) * (end - start)


def _grass(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    ground = blend(jitter(rng, (70, 124, 48)), jitter(rng, (126, 176, 76)), cloudiness(rng, height, width, 6))
    picture = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    unit = min(height, width) / 224
    count = int(260 * height * width / min(height, width) ** 2)
    xs, ys = rng.uniform(0, width, count), rng.uniform(0, height, count)
    lean, tall = rng.normal(0, 2.2 * unit, count), rng.uniform(4, 10, count) * unit
    shades = [jitter(rng, (64, 130, 46), 26) for _ in range(12)]
    for i, (x, y, dx, dy) in enumerate(zip(xs, ys, lean, tall, strict=True)):
        draw.line([(x, y), (x + dx, y - dy)], fill=shades[i % 12], width=max(1, round(unit)))
    return np.asarray(picture, np.float32)


def _sky(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    down = np.repeat(np.linspace(0, 1, height, dtype=np.float32)[:, None], width, axis=1)
    air = blend(jitter(rng, (92, 160, 226), 12), jitter(rng, (176, 214, 240), 10), down)
    cloud = 0.65 * cloudiness(rng, height, width, 4) + 0.35 * cloudiness(rng, height, width, 10)
    thick = np.clip((cloud - rng.uniform(0.5, 0.62)) * 5, 0, 0.95)[..., None]
    return air * (1 - thick) + np.float32(248) * thick


def _sea(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) * (224 / min(height, width))
    bend = 9 * cloudiness(rng, height, width, 5)
    wave = np.sin(y / rng.uniform(2.2, 3.6) + bend + 1.5 * np.sin(x / rng.uniform(9, 16) + bend))
    water = blend(jitter(rng, (18, 86, 132), 14), jitter(rng, (48, 142, 176), 14), 0.5 + 0.5 * wave)
    foam = np.clip((wave + cloudiness(rng, height, width, 8) - 1.62) * 3, 0, 0.8)[..., None]
    surf: np.ndarray = water * (1 - foam) + np.float32(226) * foam
    return surf


def _sand(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) * (224 / min(height, width))
    slope = rng.uniform(-0.6, 0.6)
    ripple = 0.5 + 0.5 * np.sin((y + slope * x) / rng.uniform(4, 7) + 7 * cloudiness(rng, height, width, 4))
    mix = 0.35 * ripple + 0.65 * cloudiness(rng, height, width, 6)
    grains = rng.normal(0, 11, (height, width, 1)).astype(np.float32)
    return blend(jitter(rng, (204, 172, 118), 12), jitter(rng, (236, 210, 160), 10), mix) + grains


def _brick_wall(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    unit = min(height, width) / 224
    tall, wide = rng.uniform(14, 22) * unit, rng.uniform(32, 46) * unit
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    row = np.floor(y / tall).astype(int)
    shifted = x + (row % 2) * wide / 2
    column = np.floor(shifted / wide).astype(int)
    shade = rng.uniform(0, 1, (row.max() + 1, column.max() + 1)).astype(np.float32)[row, column]
    bricks = blend(jitter(rng, (140, 62, 46), 14), jitter(rng, (184, 92, 66), 14), shade)
    joint = (y % tall < 2.2 * unit) | (shifted % wide < 2.2 * unit)
    bricks[joint] = jitter(rng, (188, 180, 168), 12)
    return bricks + rng.normal(0, 6, (height, width, 1)).astype(np.float32)


def _snow(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    mix = 0.7 * cloudiness(rng, height, width, 4) + 0.3 * cloudiness(rng, height, width, 12)
    ground = blend(jitter(rng, (206, 216, 232), 6), jitter(rng, (248, 250, 254), 4), mix)
    glitter = (rng.random((height, width, 1)) < 0.012) * rng.uniform(-34, 30)
    return ground + glitter.astype(np.float32) + rng.normal(0, 3, (height, width, 1)).astype(np.float32)


def _wooden_floor(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    unit = min(height, width) / 224
    tall = rng.uniform(20, 36) * unit
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    row = np.floor(y / tall).astype(int)
    offset = rng.uniform(0, 9, row.max() + 1).astype(np.float32)[row]
    bend = 4 * cloudiness(rng, height, width, 3)
    grain = np.sin((y / unit) * 0.9 + offset * 5 + bend + np.sin(x / unit / 26 + offset))
    shade = rng.uniform(0, 0.6, row.max() + 1).astype(np.float32)[row]
    planks = blend(jitter(rng, (122, 80, 46), 12), jitter(rng, (178, 128, 82), 12), shade + 0.2 + 0.2 * grain)
    planks[y % tall < 1.6 * unit] *= 0.55
    return planks + rng.normal(0, 4, (height, width, 1)).astype(np.float32)


def _night_sky(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    down = np.repeat(np.linspace(0, 1, height, dtype=np.float32)[:, None], width, axis=1)
    mix = 0.6 * down + 0.4 * cloudiness(rng, height, width, 3)
    air = blend(jitter(rng, (12, 14, 42), 8), jitter(rng, (44, 48, 96), 12), mix)
    dots = (rng.random((height, width)) < 0.0035).astype(np.float32) * rng.uniform(90, 200)
    dots = np.maximum(dots, 0.5 * np.roll(dots, 1, axis=1))
    sky: np.ndarray = air + dots[..., None]
    return sky


PAINTERS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "grass": _grass, "sky": _sky, "sea": _sea, "sand": _sand, "brick wall": _brick_wall, "snow": _snow,
    "wooden floor": _wooden_floor, "night sky": _night_sky,
}  # fmt: skip


def draw_background(name: str, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """The ground ``name`` as float32 [H, W, 3], 0..255, with uneven light. Raises KeyError for an unknown name."""
    if name not in PAINTERS:
        raise KeyError(f"unknown background {name!r}; choose from {', '.join(PAINTERS)}, e.g. 'grass'")
    light = rng.uniform(0.86, 1.08) + 0.12 * (cloudiness(rng, height, width, 2) - 0.5)
    return np.clip(PAINTERS[name](rng, height, width) * light[..., None], 0, 255).astype(np.float32)
