"""Loading a data set by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from clipseg_ws.eval.datasets import DATASETS
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.datasets.episodes import read_episodes
from clipseg_ws.eval.datasets.fewshot import from_dataset
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.guard import Setting, parse_setting
from clipseg_ws.registry import find


def expected_tree(name: str) -> str:
    """The folder tree in which a data set is expected; "" for a drawn one."""
    module, _, attribute = DATASETS[name].about["tree"].partition(":")
    return str(getattr(import_module(module), attribute)) if module else ""


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
        options: ``count`` and ``size`` (scenes), ``count`` (episodes to draw), ``seed``, ``min_pixels``, ``min_share``,
            ``in_turn`` (see ``from_dataset``).

    Raises:
        ValueError: unknown data set, setting or option; few-shot data with another setting or the other way round.
        DatasetError: the root is missing or incomplete.
    """
    entry = find(DATASETS, name, "data set")
    setting = parse_setting(setting) if isinstance(setting, str) else setting
    few = entry.about["kind"] == "few-shot"
    if few and not setting.shots:
        raise ValueError(f"{name} has few-shot settings only, got {setting.name!r}; e.g. --setting few-1")
    if not setting.shots and (fold is not None or episodes is not None):
        raise ValueError(f"--fold and --episodes belong to few-shot settings, got {setting.name!r}; e.g. few-1")
    if root is None and (tree := expected_tree(name)):
        raise DatasetError(f"{name} needs --root; expected there:\n{tree}")
    reader = entry.load()
    given = {key: value for key, value in options.items() if value is not None}
    if few:
        return _read(reader, name, root, split, setting, prompts, given | {"fold": fold, "episodes": episodes})
    drawing = _drawing(reader, given, fold, episodes) if setting.shots else {}
    found = _read(reader, name, root, split, setting, prompts, given)
    return from_dataset(found, setting, **drawing) if isinstance(found, Dataset) and setting.shots else found


_DRAWN = ("count", "seed", "min_pixels", "min_share", "in_turn")


def _drawing(
    reader: Callable[..., Any], given: dict[str, Any], fold: int | None, episodes: str | Path | None
) -> dict[str, Any]:
    """What ``from_dataset`` is told, taken out of ``given``; of a drawn set as many episodes as it has pictures."""
    drawing = {key: given.pop(key) for key in _DRAWN if key in given}
    if "count" in _options(reader):
        drawing.setdefault("count", _options(reader)["count"])
    return drawing | {"fold": fold, "episodes": None if episodes is None else read_episodes(episodes)}


def _read(
    reader: Callable[..., Any], name: str, root: str | Path | None, split: str | None, setting: Setting,
    prompts: str | None, given: dict[str, Any],
) -> Dataset | EpisodeSet:  # fmt: skip
    """What the reader makes of it. Raises ValueError for options that it does not take."""
    if strangers := [key for key in given if key not in _options(reader)]:
        known = ", ".join(_options(reader)) or "none"
        raise ValueError(f"{name} takes no {', '.join(strangers)}; its options are {known}")
    found: Dataset | EpisodeSet = reader(name, root, split, setting, prompts, **given)
    return found


def _options(reader: Callable[..., Any]) -> dict[str, Any]:
    """Name -> default of what a reader may be told beside the common arguments."""
    parameters = inspect.signature(reader).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
