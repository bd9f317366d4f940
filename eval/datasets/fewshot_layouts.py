"""Readers that make an `EpisodeSet`: PASCAL-5i, COCO-20i and FSS-1000 as HSNet lays them out, or any data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipseg_ws.eval.datasets import coco, voc
from clipseg_ws.eval.datasets.base import Dataset, DatasetError, check_files, find_root, unrotated
from clipseg_ws.eval.datasets.episode_sets import EpisodeSet, binary
from clipseg_ws.eval.datasets.episodes import Episode, draw_episodes, read_episodes
from clipseg_ws.eval.guard import Setting

FSS_TREE = """  FSS-1000/  (or fewshot_data/fewshot_data/)
    <class>/{1..10}.jpg
    <class>/{1..10}.png    white = object
    test.txt               optional: the 240 test classes, one a line"""
EPISODES = 1000
FSS_FIRST_TEST = 760  # class_id of the first test class


def _listed(path: str | Path | None, setting: Setting, fold: int | None, name: str) -> tuple[Episode, ...] | None:
    if path is None:
        return None
    episodes = read_episodes(path)
    if fold is not None and episodes[0].fold != fold:
        raise DatasetError(f"{name}: --fold {fold} with a list of fold {episodes[0].fold} ({path})")
    return episodes


def _fold(fold: int | None, listed: tuple[Episode, ...] | None, name: str) -> int:
    fold = listed[0].fold if listed and fold is None else fold
    if fold not in (0, 1, 2, 3):
        raise DatasetError(f"{name}: fold {fold!r}; choose from 0, 1, 2, 3, e.g. --fold 0")
    return int(fold)


def _members(base: Dataset, classes: tuple[int, ...], min_pixels: int) -> dict[int, list[str]]:
    """class id (label - 1) -> pictures in which it has at least ``min_pixels``."""
    members: dict[int, list[str]] = {c: [] for c in classes}
    for id in base.ids:
        areas = np.bincount(base.truth(id).ravel(), minlength=256)
        for c in classes:
            if areas[c + 1] >= min_pixels:
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
    **given: Any,
) -> EpisodeSet:
    """Episodes over any data set; class id = label - 1. Without a frozen list one is drawn from the masks."""
    classes = classes or tuple(range(len(base.vocabulary.names)))
    drawn = episodes is None
    if episodes is None:
        members = {c: names for c, names in _members(base, classes, min_pixels).items() if len(names) > 1}
        episodes = draw_episodes(members, count, setting.shots, seed=seed, fold=fold)
        classes = tuple(members)
    origin = f"drawn, seed {seed}, min_pixels {min_pixels}" if drawn else "frozen list"
    known = set(base.ids)
    lost = {n for e in episodes for n in (e.query, *e.supports)} - known
    if lost:
        raise DatasetError(f"{base.name}: {len(lost)} pictures of the list are not there, e.g. {sorted(lost)[:3]}")
    return EpisodeSet(
        base.name, base.split, setting, episodes, classes, dict(enumerate(base.vocabulary.names)),
        image=base.image, mask=lambda name, c: binary(base.truth(name), c + 1), root=base.root,
        notes=dict(base.notes) | {"episodes": origin},
        **given,
    )  # fmt: skip


def pascal5i(
    name: str, root: str | Path | None, split: str | None, setting: Setting, prompts: str | None = None, *,
    fold: int | None = None, episodes: str | Path | None = None, count: int = EPISODES, seed: int = 0,
    min_pixels: int = 1,
) -> EpisodeSet:  # fmt: skip
    """``pascal5i``: VOC 2012 val; fold f holds classes 5f…5f+4. ``episodes``: a frozen list."""
    listed = _listed(episodes, setting, fold, name)
    fold = _fold(fold, listed, name)
    base = voc.voc("voc21", root, split or "val", Setting("zero", "zero"), prompts)
    classes = tuple(range(5 * fold, 5 * fold + 5))
    found = from_dataset(
        replace(base, name=name), setting, classes=classes, fold=fold, episodes=listed, count=count, seed=seed,
        min_pixels=min_pixels, expected=EPISODES,
    )  # fmt: skip
    return replace(found, classes=classes)  # those without an episode stay in the mean and count 0, as in HSNet


def coco20i(
    name: str, root: str | Path | None, split: str | None, setting: Setting, prompts: str | None = None, *,
    fold: int | None = None, episodes: str | Path | None = None, count: int = EPISODES, seed: int = 0,
    min_pixels: int = 1,
) -> EpisodeSet:  # fmt: skip
    """``coco20i``: COCO 2014 val; fold f holds classes f, f+4, … f+76. ``episodes``: a frozen list."""
    listed = _listed(episodes, setting, fold, name)
    fold = _fold(fold, listed, name)
    base = coco.coco14("coco14", root, split or "val", Setting("zero", "zero"), prompts)
    if listed:  # the published lists say "val2014/COCO_val2014_….jpg"
        listed = tuple(
            Episode(e.index, e.class_id, Path(e.query).stem, tuple(Path(s).stem for s in e.supports), e.fold)
            for e in listed
        )
    classes = tuple(range(fold, 80, 4))
    found = from_dataset(
        replace(base, name=name), setting, classes=classes, fold=fold, episodes=listed, count=count, seed=seed,
        min_pixels=min_pixels, expected=EPISODES,
    )  # fmt: skip
    return replace(found, classes=classes)  # those without an episode stay in the mean and count 0, as in HSNet


def fss1000(
    name: str, root: str | Path | None, split: str | None, setting: Setting, prompts: str | None = None, *,
    fold: int | None = None, episodes: str | Path | None = None, count: int | None = None, seed: int = 0,
    min_pixels: int = 1,
) -> EpisodeSet:  # fmt: skip
    """``fss1000``: the test classes; every picture is a query. Class ids count from 760 in sorted order."""
    if fold is not None:
        raise DatasetError(f"{name} has no folds, got --fold {fold}")
    listed = _listed(episodes, setting, None, name)
    base = _fss_root(root, name)
    names = _fss_classes(base, listed, name)
    ids = {FSS_FIRST_TEST + i: word for i, word in enumerate(names)}
    if listed is None:
        members = {c: [f"{word}/{p.name}" for p in (base / word).glob("*.jpg")] for c, word in ids.items()}
        listed = draw_episodes(members, count or sum(map(len, members.values())), setting.shots, seed=seed)
    pictures = sorted({n.removesuffix(".jpg") for e in listed for n in (e.query, *e.supports)})
    check_files(pictures, [(base, ".jpg"), (base, ".png")], name, FSS_TREE)
    return EpisodeSet(
        name, "test", setting, listed, tuple(ids), {c: word.replace("_", " ") for c, word in ids.items()},
        image=lambda file: unrotated(base / file),
        mask=lambda file, _: (read_grey(base / file.replace(".jpg", ".png")) > 127).astype(np.uint8),
        root=base, expected=2400, notes={"episodes": "frozen list" if episodes else f"drawn, seed {seed}"},
    )  # fmt: skip


def read_grey(path: Path) -> np.ndarray:
    """[H, W] uint8 brightness; FSS-1000 stores its masks as grey or colour pictures."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def _fss_root(root: str | Path | None, name: str) -> Path:
    """The folder that holds the class folders."""
    if root is None:
        raise DatasetError(f"{name} needs --root; expected there:\n{FSS_TREE}")
    base = Path(root).expanduser()
    inside = ("FSS-1000", "fewshot_data/fewshot_data", "fewshot_data", "")
    for candidate in (base / part for part in inside):
        if any(candidate.glob("*/1.jpg")):
            return candidate
    return find_root(root, name, "<class>/1.jpg", (), FSS_TREE)


def _fss_classes(base: Path, listed: tuple[Episode, ...] | None, name: str) -> list[str]:
    """Test classes in order: of test.txt, else of the frozen list (which holds all of them), else every folder."""
    file = base / "test.txt"
    if file.is_file():
        return sorted(line.strip() for line in file.read_text("utf-8").splitlines() if line.strip())
    if listed:
        found = {e.class_id: e.query.split("/")[0] for e in listed}
        if sorted(found) != list(range(FSS_FIRST_TEST, FSS_FIRST_TEST + len(found))):
            raise DatasetError(
                f"{name}: the list names {len(found)} classes with gaps; put test.txt into {str(base)!r}"
            )
        return [found[c] for c in sorted(found)]
    return sorted(path.parent.name for path in base.glob("*/1.jpg"))
