"""FSS-1000 as HSNet lays it out: a folder a class, ten pictures and masks in each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clipseg_ws.door.pictures import open_picture
from clipseg_ws.door.plain import read_text, user_path
from clipseg_ws.eval.datasets import official_count
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.datasets.episodes import Episode, draw_episodes
from clipseg_ws.eval.datasets.fewshot import listed_episodes
from clipseg_ws.eval.datasets.files import DatasetError, check_files, find_root, unrotated
from clipseg_ws.eval.guard import Setting

TREE = """  FSS-1000/  (or fewshot_data/fewshot_data/)
    <class>/{1..10}.jpg
    <class>/{1..10}.png    white = object
    test.txt               optional: the 240 test classes, one a line"""
FIRST_TEST = 760  # class_id of the first test class


def fss1000(
    name: str, root: str | Path, split: str | None, setting: Setting, prompts: str | None = None, *,
    fold: int | None = None, episodes: str | Path | None = None, count: int | None = None, seed: int = 0,
    min_pixels: int = 1,
) -> EpisodeSet:  # fmt: skip
    """``fss1000``: the test classes; every picture is a query. Class ids count from 760 in sorted order."""
    if fold is not None:
        raise DatasetError(f"{name} has no folds, got --fold {fold}")
    listed = listed_episodes(episodes, None, name)
    base = _fss_root(root, name)
    names = _fss_classes(base, listed, name)
    ids = {FIRST_TEST + i: word for i, word in enumerate(names)}
    if listed is None:
        members = {c: [f"{word}/{p.name}" for p in (base / word).glob("*.jpg")] for c, word in ids.items()}
        listed = draw_episodes(members, count or sum(map(len, members.values())), setting.shots, seed=seed)
    pictures = sorted({n.removesuffix(".jpg") for e in listed for n in (e.query, *e.supports)})
    check_files(pictures, [(base, ".jpg"), (base, ".png")], name, TREE)
    return EpisodeSet(
        name, "test", setting, listed, tuple(ids), {c: word.replace("_", " ") for c, word in ids.items()},
        image=lambda file: unrotated(base / file),
        mask=lambda file, _: (read_grey(base / file.replace(".jpg", ".png")) > 127).astype(np.uint8),
        files=lambda file: (base / file, base / file.replace(".jpg", ".png")),
        root=base, expected=official_count(name, "test"),
        notes={"episodes": "frozen list" if episodes else f"drawn, seed {seed}"},
    )  # fmt: skip


def read_grey(path: Path) -> np.ndarray:
    """[H, W] uint8 brightness; FSS-1000 stores its masks as grey or colour pictures."""
    with open_picture(path) as picture:
        return np.asarray(picture.convert("L"))


def _fss_root(root: str | Path, name: str) -> Path:
    """The folder that holds the class folders."""
    base = user_path(root)
    inside = ("FSS-1000", "fewshot_data/fewshot_data", "fewshot_data", "")
    for candidate in (base / part for part in inside):
        if any(candidate.glob("*/1.jpg")):
            return candidate
    return find_root(root, name, "<class>/1.jpg", (), TREE)


def _fss_classes(base: Path, listed: tuple[Episode, ...] | None, name: str) -> list[str]:
    """Test classes in order: of test.txt, else of the frozen list (which holds all of them), else every folder."""
    file = base / "test.txt"
    if file.is_file():
        return sorted(line.strip() for line in read_text(file).splitlines() if line.strip())
    if listed:
        found = {e.class_id: e.query.split("/")[0] for e in listed}
        if sorted(found) != list(range(FIRST_TEST, FIRST_TEST + len(found))):
            raise DatasetError(
                f"{name}: the list names {len(found)} classes with gaps; put test.txt into {str(base)!r}"
            )
        return [found[c] for c in sorted(found)]
    return sorted(path.parent.name for path in base.glob("*/1.jpg"))
