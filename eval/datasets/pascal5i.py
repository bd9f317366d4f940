"""PASCAL-5i: one-class episodes over VOC 2012, five classes a fold."""

from __future__ import annotations

from pathlib import Path

from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.datasets.fewshot import EPISODES, checked_fold, listed_episodes, one_fold
from clipseg_ws.eval.datasets.voc import voc
from clipseg_ws.eval.guard import Setting


def pascal5i(
    name: str, root: str | Path, split: str | None, setting: Setting, prompts: str | None = None, *,
    fold: int | None = None, episodes: str | Path | None = None, count: int = EPISODES, seed: int = 0,
    min_pixels: int = 1,
) -> EpisodeSet:  # fmt: skip
    """``pascal5i``: VOC 2012 val; fold f holds classes 5f…5f+4. ``episodes``: a frozen list."""
    listed = listed_episodes(episodes, fold, name)
    fold = checked_fold(fold, listed, name)
    base = voc(name, root, split or "val", Setting("zero", "zero"), prompts)
    return one_fold(
        base, setting, classes=tuple(range(5 * fold, 5 * fold + 5)), fold=fold, episodes=listed, count=count,
        seed=seed, min_pixels=min_pixels,
    )  # fmt: skip
