"""The registry of data sets and the one function that loads them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clipseg_ws.eval.datasets import coco, fewshot_layouts, plain, streets, voc
from clipseg_ws.eval.datasets.base import Dataset, DatasetError
from clipseg_ws.eval.datasets.episode_sets import EpisodeSet
from clipseg_ws.eval.datasets.episodes import read_episodes
from clipseg_ws.eval.guard import Setting, parse_setting

__all__ = ["AVG8", "DATASETS", "Dataset", "DatasetError", "EpisodeSet", "load_dataset"]

DATASETS: dict[str, Callable[..., Dataset | EpisodeSet]] = {
    "voc21": voc.voc,
    "voc20": voc.voc,
    "voc-animals": voc.voc,
    "context60": voc.context,
    "context59": voc.context,
    "coco-object81": coco.coco17,
    "coco-stuff171": coco.coco17,
    "ade150": streets.ade150,
    "cityscapes19": streets.cityscapes19,
    "coco14": coco.coco14,
    "pascal5i": fewshot_layouts.pascal5i,
    "coco20i": fewshot_layouts.coco20i,
    "fss1000": fewshot_layouts.fss1000,
    "folder": plain.folder,
    "scenes": plain.scenes,
    "scenes100": plain.scenes,
}
FEW_SHOT_ONLY = ("pascal5i", "coco20i", "fss1000")
AVG8 = (
    "voc21", "voc20", "context60", "context59", "coco-object81", "coco-stuff171", "ade150", "cityscapes19",
)  # fmt: skip


def load_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    setting: str | Setting = "zero",
    split: str | None = None,
    prompts: str | None = None,
    fold: int | None = None,
    episodes: str | Path | None = None,
    **options: Any,
) -> Dataset | EpisodeSet:
    """A data set whose samples hand out what ``setting`` allows.

    Args:
        name: a key of ``DATASETS``. root: its folder. split: the official split's name.
        prompts: vocabulary name or class file in place of the data set's own.
        fold, episodes: for few-shot settings; ``episodes`` is a frozen list (CSV, also .gz).
        options: ``count`` and ``size`` (scenes), ``count`` (episodes to draw), ``seed``, ``min_pixels``.

    Raises:
        ValueError: unknown data set, setting or option; few-shot data with another setting or the other way round.
        DatasetError: the root is missing or incomplete.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}; choose from {', '.join(DATASETS)}")
    setting = parse_setting(setting) if isinstance(setting, str) else setting
    loader = DATASETS[name]
    given = {key: value for key, value in options.items() if value is not None}
    if name in FEW_SHOT_ONLY:
        if not setting.shots:
            raise ValueError(f"{name} has few-shot settings only, got {setting.name!r}; e.g. --setting few-1")
        given |= {"fold": fold, "episodes": episodes}
        return loader(name, root, split, setting, prompts, **_accepted(loader, given, name))
    if setting.shots:
        drawing: dict[str, Any] = {key: given.pop(key) for key in ("count", "seed", "min_pixels") if key in given}
        if name.startswith("scenes"):
            drawing.setdefault("count", plain.SCENES)
        drawing |= {"fold": fold, "episodes": None if episodes is None else read_episodes(episodes)}
    elif fold is not None or episodes is not None:
        raise ValueError(f"--fold and --episodes belong to few-shot settings, got {setting.name!r}; e.g. few-1")
    base = loader(name, root, split, setting, prompts, **_accepted(loader, given, name))
    return fewshot_layouts.from_dataset(base, setting, **drawing) if setting.shots else base  # type: ignore[arg-type]


def _accepted(loader: Callable[..., Any], given: dict[str, Any], name: str) -> dict[str, Any]:
    """``given`` if the loader takes all of it. Raises ValueError naming what it takes."""
    known = [p.name for p in inspect.signature(loader).parameters.values() if p.kind is p.KEYWORD_ONLY]
    strangers = [key for key in given if key not in known]
    if strangers:
        raise ValueError(f"{name} takes no {', '.join(strangers)}; its options are {', '.join(known) or 'none'}")
    return given
