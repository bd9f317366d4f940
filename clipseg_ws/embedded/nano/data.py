"""Training batches of the embedded model: a pool of drawn scenes on disk, cut, turned and recoloured at random.

Drawing a scene costs about as much as a training step on it, so a pool is drawn once (`build_pool`) and read as memory
maps; every batch depends on its step number only, so that a resumed run sees what an uninterrupted one sees.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from clipseg_ws.embedded.nano.scenes import BACKGROUNDS, KINDS, draw_scene

POOL_VERSION = 1  # raise it when the generator changes: old pools are then drawn anew


@dataclass(frozen=True, eq=False)
class Pool:
    """Scenes in memory maps: ``images`` uint8 [S, P, P, 3], ``labels`` uint8 [S, P, P], ``grounds`` uint8 [S]."""

    images: np.ndarray
    labels: np.ndarray
    grounds: np.ndarray


@dataclass(frozen=True, eq=False)
class Batch:
    """``images`` float32 [B, 3, S, S] in 0..1, ``labels`` int64 [B, S, S], ``grounds`` int64 [B] into BACKGROUNDS."""

    images: torch.Tensor
    labels: torch.Tensor
    grounds: torch.Tensor


def _draw_slice(seeds: Sequence[int], size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scenes = [draw_scene(seed, size) for seed in seeds]
    grounds = np.array([BACKGROUNDS.index(scene.background) for scene in scenes], np.uint8)
    return np.stack([s.image for s in scenes]), np.stack([s.labels for s in scenes]), grounds


def _write_pool(folder: Path, scenes: int, size: int, first_seed: int, workers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {"images": (scenes, size, size, 3), "labels": (scenes, size, size), "grounds": (scenes,)}
    maps = {n: np.lib.format.open_memmap(folder / f"{n}.npy", "w+", np.uint8, s) for n, s in shapes.items()}
    starts = range(0, scenes, 32)
    slices = [range(first_seed + s, first_seed + min(scenes, s + 32)) for s in starts]
    with ExitStack() as stack:
        draw = partial(_draw_slice, size=size)
        if workers > 1:
            executor = stack.enter_context(ProcessPoolExecutor(workers, mp_context=get_context("spawn")))
            drawn = executor.map(draw, slices)
        else:
            drawn = map(draw, slices)
        for start, part in zip(starts, tqdm(drawn, total=len(slices), desc="drawing", disable=None), strict=True):
            for name, values in zip(maps, part, strict=True):
                maps[name][start : start + len(values)] = values
    for values in maps.values():
        values.flush()


def build_pool(cache: Path, scenes: int, size: int = 224, first_seed: int = 0, workers: int = 2) -> Pool:
    """``scenes`` scenes of the seeds from ``first_seed`` on, at ``size``, drawn into ``cache`` if missing."""
    wanted = {"version": POOL_VERSION, "scenes": scenes, "size": size, "first_seed": first_seed}
    folder, done = cache, cache / "pool.json"
    if not done.exists() or json.loads(done.read_text()) != wanted:
        done.unlink(missing_ok=True)
        _write_pool(folder, scenes, size, first_seed, workers)
        partial_name = folder / "pool.json.part"
        partial_name.write_text(json.dumps(wanted))
        os.replace(partial_name, done)
    return Pool(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("images", "labels", "grounds")))


def _cut(rng: np.random.Generator, side: int) -> tuple[int, int, int]:
    """A random square (top, left, extent) inside ``side`` pixels; the whole picture in a third of the cases."""
    extent = side if rng.random() < 0.34 else int(side * rng.uniform(0.6, 1.0))
    return int(rng.integers(side - extent + 1)), int(rng.integers(side - extent + 1)), extent


def _recolour(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Brightness, channel gains and contrast of each picture changed a little; [B, 3, S, S] in 0..1."""
    count = images.shape[0]
    gain = torch.from_numpy(rng.uniform(0.85, 1.15, (count, 1, 1, 1)) * rng.uniform(0.94, 1.06, (count, 3, 1, 1)))
    shift = torch.from_numpy(rng.uniform(-0.06, 0.06, (count, 1, 1, 1)))
    return (images * gain.float() + shift.float()).clamp(0, 1)


def sample_batch(pool: Pool, batch: int, size: int, seed: tuple[int, ...]) -> Batch:
    """``batch`` scenes of the pool, each cut, flipped, resized to ``size`` and recoloured; determined by ``seed``."""
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(pool.grounds), batch, replace=len(pool.grounds) < batch))
    images, labels = [], []
    for index in chosen:
        top, left, extent = _cut(rng, pool.images.shape[1])
        window = (index, slice(top, top + extent), slice(left, left + extent))
        image = torch.from_numpy(pool.images[window].copy()).permute(2, 0, 1)[None]  # [1, 3, e, e]
        label = torch.from_numpy(pool.labels[window].copy())[None, None]  # [1, 1, e, e]
        image = F.interpolate(image, size=(size, size), mode="bilinear", antialias=True)
        label = F.interpolate(label, size=(size, size), mode="nearest-exact")
        turn = rng.random() < 0.5
        images.append(image.flip(-1) if turn else image)
        labels.append(label.flip(-1) if turn else label)
    pictures = _recolour(torch.cat(images).float() / 255, rng)
    return Batch(pictures, torch.cat(labels)[:, 0].long(), torch.from_numpy(pool.grounds[chosen]).long())


def patch_shares(labels: torch.Tensor, patch: int) -> torch.Tensor:
    """Share of each patch that every label covers: int [B, H, W] -> float [B, N, 1 + len(KINDS)], rows sum to 1."""
    hot = F.one_hot(labels, len(KINDS) + 1).permute(0, 3, 1, 2).float()  # [B, C, H, W]
    return F.avg_pool2d(hot, patch).flatten(2).transpose(1, 2)  # [B, C, h, w] -> [B, N, C]
