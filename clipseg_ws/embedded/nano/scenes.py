"""Drawn scenes with exact labels, made from a seed: what the embedded model is trained and measured on.

A scene is a textured ground with one to four things on it, of the kinds in ``KINDS``, in any size between an eighth and
six tenths of the shorter side, rotated, partly covered by one another. The same seed and size give the same scene.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clipseg_ws.embedded.nano.backgrounds import PAINTERS as _GROUNDS
from clipseg_ws.embedded.nano.backgrounds import draw_background
from clipseg_ws.embedded.nano.shapes import PAINTERS as _THINGS
from clipseg_ws.embedded.nano.shapes import draw_thing

KINDS: tuple[str, ...] = tuple(_THINGS)
BACKGROUNDS: tuple[str, ...] = tuple(_GROUNDS)
SYNONYMS: dict[str, tuple[str, ...]] = {
    "house": ("cottage", "home", "building"),
    "tree": ("oak", "fir", "pine"),
    "car": ("automobile", "vehicle"),
    "boat": ("sailboat", "ship"),
    "fish": ("goldfish",),
    "sun": ("sunshine",),
    "flower": ("blossom", "daisy"),
    "mushroom": ("toadstool", "fungus"),
    "star": ("pentagram",),
    "balloon": ("air balloon",),
    "umbrella": ("parasol", "brolly"),
    "butterfly": ("moth",),
}
BACKGROUND_SYNONYMS: dict[str, tuple[str, ...]] = {
    "grass": ("meadow", "lawn"),
    "sky": ("clouds", "cloudy sky"),
    "sea": ("water", "ocean", "waves"),
    "sand": ("beach", "desert"),
    "brick wall": ("bricks", "wall"),
    "snow": ("snowfield", "ice"),
    "wooden floor": ("wood", "planks"),
    "night sky": ("night", "darkness"),
}
HELD_OUT_SEED = 10_000_000  # scenes for measuring have this seed or a larger one; training uses smaller seeds only
SIDES = (0.12, 0.6)  # extent of a thing as a share of the picture's shorter side
MIN_SHARE = 0.008  # of the picture: a thing with less visible area is drawn anew elsewhere
MIN_VISIBLE = 0.45  # of its own area inside the picture: a thing may not be covered by more than the rest


@dataclass(frozen=True, eq=False)
class Scene:
    """One drawn scene.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        labels: uint8 [H, W]; 0 background, i+1 = ``KINDS[i]``. Exact: a pixel carries the label of the topmost thing
            that covers at least half of it.
        tags: the kinds that are visible, in the order of ``KINDS``.
        background: one of ``BACKGROUNDS``.
        captions: sentences about the scene, the first with the plain names, the others with synonyms.
        seed: what it was drawn from.
    """

    image: np.ndarray
    labels: np.ndarray
    tags: tuple[str, ...]
    background: str
    captions: tuple[str, ...]
    seed: int


def describe(things: Sequence[str], ground: str) -> str:
    """A sentence such as ``"a house and a car on grass"``; the words are used as given."""
    named = [f"{'an' if word[0] in 'aeiou' else 'a'} {word}" for word in things]
    listed = " and ".join(part for part in (", ".join(named[:-1]), named[-1] if named else "") if part)
    return f"{listed} on {ground}" if listed else ground


def captions_for(tags: Sequence[str], background: str, rng: np.random.Generator, count: int = 3) -> tuple[str, ...]:
    """``count`` captions of a scene: the plain names first, then random synonyms and orders."""
    captions = [describe(tags, background)]
    while len(captions) < count:
        words = [str(rng.choice((tag, *SYNONYMS[tag]))) for tag in tags]
        rng.shuffle(words)
        captions.append(describe(words, str(rng.choice((background, *BACKGROUND_SYNONYMS[background])))))
    return tuple(captions)


def _paste(
    image: np.ndarray, labels: np.ndarray, thing: tuple[np.ndarray, np.ndarray], corner: tuple[int, int], label: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """``image`` float [H, W, 3] and ``labels`` [H, W] with the thing on top, and how many pixels it covers."""
    colour, cover = thing
    height, width = labels.shape
    top, left = corner
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(height, top + cover.shape[0]), min(width, left + cover.shape[1])
    if y0 >= y1 or x0 >= x1:
        return image, labels, 0
    part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    alpha = cover[part][..., None]
    image, labels = image.copy(), labels.copy()
    image[y0:y1, x0:x1] = image[y0:y1, x0:x1] * (1 - alpha) + colour[part] * alpha
    labels[y0:y1, x0:x1][alpha[..., 0] >= 0.5] = label
    return image, labels, int((alpha >= 0.5).sum())


def _add(
    image: np.ndarray, owner: np.ndarray, areas: list[int], kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[int]] | None:
    """The scene with one more thing of ``kind`` (owner map [H, W]: 0 or thing number), None if it would not be seen."""
    height, width = owner.shape
    short = min(height, width)
    side = short * float(rng.uniform(*SIDES))
    colour, cover = draw_thing(kind, side, rng)
    middle = cover.shape[0] / 2
    y, x = rng.uniform(0.32 * side, height - 0.32 * side), rng.uniform(0.32 * side, width - 0.32 * side)
    corner = (round(y - middle), round(x - middle))
    image, owner, area = _paste(image, owner, (colour, cover), corner, len(areas) + 1)
    areas = [*areas, area]
    visible = np.bincount(owner.ravel(), minlength=len(areas) + 1)[1:]
    floor = np.maximum(MIN_VISIBLE * np.asarray(areas), MIN_SHARE * owner.size)
    return (image, owner, areas) if (visible >= floor).all() else None


def draw_scene(
    seed: int, size: int | tuple[int, int] = 224, *, kinds: Sequence[str] | None = None, max_things: int = 4
) -> Scene:
    """The scene of ``seed`` at ``size`` pixels (a side, or (height, width)) with 1 to ``max_things`` things.

    ``kinds`` limits what is drawn. Raises ValueError for a size under 32, an unknown kind or ``max_things`` under 1.
    """
    height, width = (size, size) if isinstance(size, int) else size
    allowed = tuple(kinds) if kinds is not None else KINDS
    unknown = [kind for kind in allowed if kind not in KINDS]
    if unknown or not allowed:
        raise ValueError(f"kinds are {unknown or 'empty'}; choose from {', '.join(KINDS)}, e.g. kinds=('house', 'car')")
    if min(height, width) < 32 or max_things < 1:
        raise ValueError(f"size {size!r}, max_things {max_things}; sides of 32 or more, 1 thing or more, e.g. 224")
    rng = np.random.default_rng(seed)
    background = str(rng.choice(BACKGROUNDS))
    image = draw_background(background, height, width, rng)
    owner = np.zeros((height, width), np.uint8)
    areas: list[int] = []
    drawn: list[int] = []
    wanted = int(rng.integers(1, max_things + 1))
    for attempt in range(200):
        kind = str(rng.choice(allowed))
        grown = _add(image, owner, areas, kind, rng)
        if grown is not None:
            image, owner, areas = grown
            drawn.append(KINDS.index(kind) + 1)
        if len(drawn) >= wanted or (drawn and attempt >= 12):
            break
    labels = np.array([0, *drawn], np.uint8)[owner]
    image = image + rng.normal(0, rng.uniform(1, 5), image.shape).astype(np.float32)
    tags = tuple(kind for i, kind in enumerate(KINDS) if i + 1 in drawn)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    return Scene(pixels, labels, tags, background, captions_for(tags, background, rng), seed)


def held_out(n: int = 200, size: int | tuple[int, int] = 224) -> Iterator[Scene]:
    """The ``n`` scenes that measurements use, in order: seeds from ``HELD_OUT_SEED`` on."""
    return (draw_scene(HELD_OUT_SEED + i, size) for i in range(n))
