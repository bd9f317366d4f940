"""Pictures and image labels of a training, views of them, and nothing that says where a thing is.

Masks of VOC are opened for one question only: which classes are in the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipseg_ws.embedded.photo.concepts import BACKGROUND_FOLDER, VOC, Labelled, concept_names, object_labels

SIDE = 240  # pictures are kept at this short side
SET_ASIDE = 100  # pictures of the small set whose masks choose settings; never learned from
CELLS = 4  # a patch's shares are counted on so many sub-cells a side
UNKNOWN = 255
_ANIMALS = {VOC.index(name) for name in ("cat", "cow", "dog", "horse", "person", "sheep")}


@dataclass(frozen=True, eq=False)
class Pool:
    """All pictures of a training in memory.

    Attributes:
        names: P concepts, VOC's 20 first. pictures: n RGB pictures, VOC's first. items: their labels.
        voc: how many are VOC's. present, known: float [n, P].
    """

    names: list[str]
    items: list[Labelled]
    pictures: list[Image.Image]
    voc: int
    present: Tensor
    known: Tensor


def classes_in(mask: Path) -> tuple[int, ...]:
    """Which of VOC's classes (0 to 19) occur in a mask, and nothing of where."""
    with Image.open(mask) as file:
        values = np.unique(np.asarray(file))
    return tuple(int(v) - 1 for v in values if 0 < v <= len(VOC))


def set_aside(small: Path) -> list[str]:
    """Stems of ``SET_ASIDE`` pictures of the small set that show an animal or a person, evenly spaced in its list."""
    stems = (small / "list.txt").read_text().split()
    shown = [s for s in stems if _ANIMALS & set(classes_in(small / "masks" / f"{s}.png"))]
    count = min(SET_ASIDE, len(shown))
    return [shown[len(shown) * i // count] for i in range(count)]


def voc_items(voc: Path, small: Path) -> list[Labelled]:
    """The small set without what is set aside, then VOC ``train`` as far as it is not in it.

    Raises ValueError where a picture of ``val`` is among them.
    """
    held = set(set_aside(small))
    listed = (small / "list.txt").read_text().split()
    places = {s: (small / f"images/{s}.jpg", small / f"masks/{s}.png") for s in listed}
    for stem in (voc / "ImageSets/Segmentation/train.txt").read_text().split():
        places.setdefault(stem, (voc / f"JPEGImages/{stem}.jpg", voc / f"SegmentationClass/{stem}.png"))
    val = set((voc / "ImageSets/Segmentation/val.txt").read_text().split())
    if shared := sorted(val & set(places))[:3]:
        raise ValueError(f"pictures of val are among the training pictures, for example {', '.join(shared)}")
    return [Labelled(image, classes_in(mask), ()) for s, (image, mask) in places.items() if s not in held]


def object_items(objects: Path) -> tuple[list[str], list[Labelled]]:
    """The names of all concepts and the photos in the folders KIND/FOLDER of ``objects``."""
    folders = [d for d in sorted(objects.glob("*/*")) if d.is_dir()]
    names = concept_names([d.name for d in folders])
    items = []
    for folder in folders:
        present, unknown = object_labels(folder.name, names)
        if folder.name == BACKGROUND_FOLDER:
            present, unknown = (), tuple(range(len(VOC)))  # anything may stand in them: only the other names are absent
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".jpg", ".jpeg", ".png"))
        items += [Labelled(file, present, unknown) for file in files]
    return names, items


def load_pool(voc: Path, small: Path, objects: Path) -> Pool:
    """Read everything. Raises FileNotFoundError where a list is missing."""
    names, photos = object_items(objects)
    items = voc_items(voc, small)
    count = len(items)
    items = [*items, *photos]
    present, known = torch.zeros(len(items), len(names)), torch.zeros(len(items), len(names))
    for i, item in enumerate(items):
        known[i, : len(VOC) if i < count else len(names)] = 1  # other names were not looked for in VOC's pictures
        known[i, list(item.unknown)] = 0
        present[i, list(item.present)] = 1
    with ThreadPoolExecutor(2) as threads:
        pictures = list(threads.map(read_small, [item.path for item in items]))
    return Pool(names, items, pictures, count, present, known)


def read_small(path: Path) -> Image.Image:
    """RGB picture whose short side has at most ``SIDE`` pixels."""
    with Image.open(path) as file:
        file.draft("RGB", (SIDE, SIDE))
        picture = file.convert("RGB")
    scale = SIDE / min(picture.size)
    if scale >= 1:
        return picture
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR)


def draw(order_seed: tuple[int, ...], low: int, high: int, start: int, count: int) -> list[int]:
    """Numbers ``start`` to ``start + count`` of the endless row of shuffled rounds through low..high-1."""
    size, chosen = high - low, []
    for place in range(start, start + count):
        order = np.random.default_rng((*order_seed, place // size)).permutation(size)
        chosen.append(low + int(order[place % size]))
    return chosen


def view(
    picture: Image.Image, mask: np.ndarray | None, size: int, crop: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A random part, mirrored half the time, colours changed: pixels [3, size, size] in [0, 1], and the mask's cells
    [4 size/16, 4 size/16] uint8 (255 everywhere without one)."""
    width, height = picture.size
    box = _part(width, height, crop, rng)
    flip = rng.random() < 0.5
    part = picture.resize((size, size), Image.Resampling.BILINEAR, box=box)
    pixels = torch.from_numpy(np.array(part)).permute(2, 0, 1).float() / 255
    side = size // 16 * CELLS
    cells = torch.full((side, side), UNKNOWN, dtype=torch.uint8)
    if mask is not None:
        small = Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST, box=box)
        cells = torch.from_numpy(np.array(small))
    brightness, contrast, colour = rng.uniform(0.7, 1.3), rng.uniform(0.7, 1.3), rng.uniform(0.6, 1.4)
    grey = pixels.mean(0, keepdim=True)
    pixels = grey + (pixels - grey) * colour
    level = pixels.mean()
    pixels = ((pixels - level) * contrast + level * brightness).clamp(0, 1)
    return (pixels.flip(-1), cells.flip(-1)) if flip else (pixels, cells)


def _part(width: int, height: int, crop: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """A box with ``crop`` to all of the picture's area and sides of 3:4 to 4:3; the middle square where none fits."""
    for _ in range(5):
        area, ratio = rng.uniform(crop, 1) * width * height, math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            break
    else:
        w = h = min(width, height)
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    return x, y, x + w, y + h


def patch_shares(cells: Tensor, classes: int) -> Tensor:
    """Cells [B, 4h, 4w] with labels 0..classes (0 background, 255 unknown) -> shares [B, h*w, 1 + classes]; rows sum to
    the known share of the patch."""
    batch, side, _ = cells.shape
    grid = side // CELLS
    blocks = cells.long().reshape(batch, grid, CELLS, grid, CELLS).permute(0, 1, 3, 2, 4)
    blocks = blocks.reshape(batch, grid * grid, CELLS * CELLS)
    known = blocks != UNKNOWN
    one = torch.zeros(batch, grid * grid, 1 + classes)
    return one.scatter_add_(2, blocks.clamp(max=classes), known.float()) / (CELLS * CELLS)


@dataclass(frozen=True, eq=False)
class Batch:
    """Views of one step: index [B] into the pool, pixels [B, 3, S, S] in [0, 1], shares [B, N, 21]."""

    index: Tensor
    pixels: Tensor
    shares: Tensor


def make_batch(pool: Pool, chosen: Sequence[int], masks: dict[int, np.ndarray], size: int, crop: float,
               rng: np.random.Generator) -> Batch:  # fmt: skip
    """Views of the chosen pictures."""
    views = [view(pool.pictures[i], masks.get(i), size, crop, rng) for i in chosen]
    pixels = torch.stack([pixels for pixels, _ in views])
    return Batch(torch.tensor(chosen), pixels, patch_shares(torch.stack([cells for _, cells in views]), len(VOC)))
