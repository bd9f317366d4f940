"""COCO-20i: one-class episodes over COCO 2014, twenty classes a fold."""

from __future__ import annotations

from pathlib import Path

from clipseg_ws.eval.datasets.coco14 import coco14
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.datasets.episodes import Episode
from clipseg_ws.eval.datasets.fewshot import EPISODES, checked_fold, listed_episodes, one_fold
from clipseg_ws.eval.guard import Setting


def coco20i(
    name: str, root: str | Path, split: str | None, setting: Setting, prompts: str | None = None, *,
    fold: int | None = None, episodes: str | Path | None = None, count: int = EPISODES, seed: int = 0,
    min_pixels: int = 1,
) -> EpisodeSet:  # fmt: skip
    """``coco20i``: COCO 2014 val; fold f holds classes f, f+4, … f+76. ``episodes``: a frozen list."""
    listed = listed_episodes(episodes, fold, name)
    fold = checked_fold(fold, listed, name)
    base = coco14(name, root, split or "val", Setting("zero", "zero"), prompts)
    if listed:  # the published lists say "val2014/COCO_val2014_….jpg"
        listed = tuple(
            Episode(e.index, e.class_id, Path(e.query).stem, tuple(Path(s).stem for s in e.supports), e.fold)
            for e in listed
        )
    return one_fold(
        base, setting, classes=tuple(range(fold, 80, 4)), fold=fold, episodes=listed, count=count, seed=seed,
        min_pixels=min_pixels,
    )  # fmt: skip
