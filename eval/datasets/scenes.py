"""Drawn scenes, no files at all."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from clipseg_ws.embedded.nano.scenes import HELD_OUT_SEED, KINDS, Scene, draw_scene
from clipseg_ws.eval.datasets import official_count
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.guard import Setting
from clipseg_ws.structures import Vocabulary
from clipseg_ws.text.vocabulary import parse_classes

SCENES, SCENE_SIZE = 200, 224  # the committed baseline rows
FIRST_SEEDS = {"held-out": HELD_OUT_SEED, "validation": 5_000_000}  # for measuring, and for choosing settings


@lru_cache(maxsize=32)  # image, truth and tags of a scene are asked for shortly after one another
def drawn(seed: int, size: int) -> Scene:
    """``draw_scene``, the last ones kept."""
    return draw_scene(seed, size)


def scenes(
    name: str,
    root: str | Path | None,
    split: str | None,
    setting: Setting,
    prompts: str | None = None,
    *,
    count: int = SCENES,
    size: int = SCENE_SIZE,
) -> Dataset:
    """``scenes``: the first ``count`` drawn scenes of a split at ``size`` pixels, all kinds as vocabulary.

    Splits: "held-out" (default) for measuring, "validation" for choosing settings; no training scene is in either.

    ``scenes100``: the same scenes asked with the 100 names of ``prompts/scenes100.yaml``, 88 of which never occur. The
    mean is over the classes of the truth: a wrong name costs the class whose pixels it takes, its own IoU is 0 anyway.
    """
    split = split or "held-out"
    if root is not None or split not in FIRST_SEEDS:
        raise DatasetError(
            f"{name} is drawn, it takes no root ({root!r}) and no split but {', '.join(FIRST_SEEDS)} ({split!r})"
        )

    def scene(id: str) -> Scene:
        return drawn(int(id), size)

    many = name == "scenes100"
    prompts = prompts or ("scenes100" if many else None)
    vocabulary = parse_classes(prompts) if prompts else Vocabulary(KINDS, tuple((kind,) for kind in KINDS))
    return Dataset(
        name, split, setting, vocabulary, tuple(str(FIRST_SEEDS[split] + i) for i in range(count)),
        image=lambda id: scene(id).image, truth=lambda id: scene(id).labels,
        prompts=prompts or "nano", expected=official_count(name, split) if size == SCENE_SIZE else None,
        official={"tags": lambda id: scene(id).tags}, notes={"size": size}, average="truth" if many else None,
        files=lambda id: (),
    )  # fmt: skip
