"""Episodes over a data set: of a frozen list, or drawn from its masks; and the folds of the published benchmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.eval.datasets import official_count
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet, binary
from clipseg_ws.eval.datasets.episodes import Episode, draw_episodes, draw_in_turn, read_episodes
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.guard import Setting

EPISODES = 1000


def listed_episodes(path: str | Path | None, fold: int | None, name: str) -> tuple[Episode, ...] | None:
    """The frozen list, None without one. Raises DatasetError for another fold than asked."""
    if path is None:
        return None
    episodes = read_episodes(path)
    if fold is not None and episodes[0].fold != fold:
        raise DatasetError(f"{name}: --fold {fold} with a list of fold {episodes[0].fold} ({path})")
    return episodes


def checked_fold(fold: int | None, listed: tuple[Episode, ...] | None, name: str) -> int:
    """The fold asked for or of the list. Raises DatasetError for none of the four."""
    fold = listed[0].fold if listed and fold is None else fold
    if fold not in (0, 1, 2, 3):
        raise DatasetError(f"{name}: fold {fold!r}; choose from 0, 1, 2, 3, e.g. --fold 0")
    return int(fold)


def _members(
    base: Dataset, classes: tuple[int, ...], min_pixels: int, min_share: float = 0.0
) -> dict[int, list[str]]:
    """class id (label - 1) -> pictures in which it has at least ``min_pixels``, and that share of all pixels."""
    members: dict[int, list[str]] = {c: [] for c in classes}
    for id in base.ids:
        areas = np.bincount(base.truth(id).ravel(), minlength=256)
        least = max(min_pixels, min_share * areas.sum())
        for c in classes:
            if areas[c + 1] >= least:
                members[c].append(id)
    return members


def from_dataset(
    base: Dataset,
    setting: Setting,
    *,
    classes: tuple[int, ...] | None = None,
    fold: int | None = None,
    episodes: tuple[Episode, ...] | None = None,
    count: int = EPISODES,
    seed: int = 0,
    min_pixels: int = 1,
    min_share: float = 0.0,
    in_turn: bool = False,
    **given: Any,
) -> EpisodeSet:
    """Episodes over any data set; class id = label - 1. Without a frozen list one is drawn from the masks.

    ``min_pixels``, ``min_share``: what a class must have of a picture to be drawn from it. ``in_turn``: by
    ``draw_in_turn``, not ``draw_episodes``.
    """
    classes = classes or tuple(range(len(base.vocabulary.names)))
    drawn = episodes is None
    if episodes is None:
        found = _members(base, classes, min_pixels, min_share)
        members = {c: names for c, names in found.items() if len(names) > 1}
        draw = draw_in_turn if in_turn else draw_episodes
        episodes = draw(members, count, setting.shots, seed=seed, fold=fold)
        classes = tuple(members)
    origin = f"drawn, seed {seed}, min_pixels {min_pixels}" if drawn else "frozen list"
    origin += f", min_share {min_share}" if drawn and min_share else ""
    origin += ", classes in turn" if drawn and in_turn else ""
    known = set(base.ids)
    lost = {n for e in episodes for n in (e.query, *e.supports)} - known
    if lost:
        raise DatasetError(f"{base.name}: {len(lost)} pictures of the list are not there, e.g. {sorted(lost)[:3]}")
    return EpisodeSet(
        base.name, base.split, setting, episodes, classes, dict(enumerate(base.vocabulary.names)),
        image=base.image, mask=lambda name, c: binary(base.truth(name), c + 1), root=base.root,
        notes=dict(base.notes) | {"episodes": origin}, files=base.files,
        **given,
    )  # fmt: skip


def one_fold(
    base: Dataset, setting: Setting, *, classes: tuple[int, ...], fold: int,
    episodes: tuple[Episode, ...] | None, count: int, seed: int, min_pixels: int,
) -> EpisodeSet:  # fmt: skip
    """``from_dataset`` for a benchmark: classes without an episode stay in the mean and count 0, as in HSNet."""
    found = from_dataset(
        base, setting, classes=classes, fold=fold, episodes=episodes, count=count, seed=seed,
        min_pixels=min_pixels, expected=official_count(base.name, "val"),
    )  # fmt: skip
    return replace(found, classes=classes)
