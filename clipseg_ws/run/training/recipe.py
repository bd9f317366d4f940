"""From pictures and masks on disk to a head's file: tokens, split, training by a scheme, saving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from clipseg_ws.heads.consistency import Consistency
from clipseg_ws.heads.cotrain import cotrain
from clipseg_ws.heads.data import HeadData, Retargeted, check_targets
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.head_file import HeadCard, load_head, save_head
from clipseg_ws.heads.incremental import add_classes, shifted
from clipseg_ws.heads.rounds import fit_rounds
from clipseg_ws.heads.training import TrainConfig
from clipseg_ws.heads.workers import Alone
from clipseg_ws.pictures.sources import Source
from clipseg_ws.run.training.data import LeftOut, Lessons, open_lessons
from clipseg_ws.run.training.masks import MaskFolder, feedback_targets
from clipseg_ws.run.training.options import Recipe, default_threshold
from clipseg_ws.segmenter import Segmenter


def train_head(
    segmenter: Segmenter, sources: Sequence[Source], folder: MaskFolder, output: str | Path, *,
    recipe: Recipe | None = None, training: TrainConfig | None = None, work: str | Path,
    tokens: str | Path | None = None, unlabelled: Sequence[Source] = (), workers: Alone | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> SegmentationHead:  # fmt: skip
    """Train and save a head.

    Args:
        segmenter: its backbone makes the tokens, its configuration the pictures' size. sources: pictures; those
            without a mask are left out. folder: of ``open_masks``. output: the head's file.
        work: folder of checkpoint and logs; a killed run continues there. tokens: folder of the tokens, by default
            below ``work``. unlabelled: for "cotrain".

    Raises:
        ValueError: no picture has a mask, targets that cannot be learned from, options that do not fit.
    """
    recipe, workers = recipe or Recipe(), workers or Alone(segmenter.backbone.device)
    training = training or TrainConfig(threshold=default_threshold(folder))
    kept = [s for s in sources if folder.has(s)]
    if not kept:
        raise ValueError(f"none of the {len(sources)} pictures has a mask in {str(folder.masks)!r}")
    say(f"{len(kept)} of {len(sources)} pictures have a mask; {len(folder.names)} classes")
    config, work = segmenter.config, Path(work)
    old = None if recipe.add_to is None else load_head(recipe.add_to)
    spec = FeatureSpec(
        recipe.blocks, config.short_side, config.long_side, config.max_patches, config.position_interpolation,
        recipe.more_scales,
    )  # fmt: skip
    if old is not None:
        old[1].check(segmenter.backbone)
        spec = old[1].features
    left_out = LeftOut(work, workers)
    lessons = open_lessons(
        segmenter, spec, kept, folder, recipe, seed=training.seed, least=training.least,
        tokens=Path(tokens or work / "tokens"), unlabelled=unlabelled, workers=workers, left_out=left_out,
    )  # fmt: skip
    if left_out.count:
        say(f"{left_out.count} pictures or views left out, see {left_out.path}; the first: {left_out.first}")
    about = asdict(replace(recipe, add_to=None)) | spec.as_dict()  # where an old head lies does not matter
    fit: dict[str, Any] = {"workers": workers, "about": about}
    if old is not None:
        head = _add(old, lessons.data, folder.names, training, fit | {"folder": work})
    else:
        fit["validation"] = lessons.validation
        head = _fit(segmenter, spec, lessons, recipe, training, folder, fit, work)
    card = HeadCard(
        head.classes_, segmenter.backbone.name, segmenter.backbone.weights_sha256, spec, head.kind, lessons.data.width,
        dict(head.options), {**asdict(training), "scheme": recipe.scheme, "pictures": len(lessons.sources),
                             "validation_miou": head.best_miou_, "steps_done": head.n_iter_},
    )  # fmt: skip
    if workers.main:
        save_head(output, head.module_, card)
    workers.wait()
    return head


def _fit(
    segmenter: Segmenter, spec: FeatureSpec, lessons: Lessons, recipe: Recipe, training: TrainConfig,
    folder: MaskFolder, fit: dict[str, Any], work: Path,
) -> SegmentationHead:  # fmt: skip
    """Train by the recipe's scheme."""
    names, data = folder.names, lessons.data

    def new(seed: int = 0) -> SegmentationHead:
        params = asdict(training) | {"seed": training.seed + seed}
        return SegmentationHead(recipe.kind, options=dict(recipe.options), **params)

    if recipe.scheme == "consistency":
        return new().fit(data, classes=names, folder=work, extra=Consistency(), **fit)
    if recipe.scheme == "rounds":
        return fit_rounds(new(), data, classes=names, rounds=recipe.rounds, threshold=recipe.sure, folder=work, **fit)
    if recipe.scheme == "cotrain":
        if lessons.unlabelled is None:
            raise ValueError("the scheme 'cotrain' needs pictures without labels: --unlabelled FOLDER")
        pair = cotrain([new(), new(1)], data, lessons.unlabelled, classes=names, rounds=recipe.rounds,
                       threshold=recipe.sure, folder=work, **fit)  # fmt: skip
        return max(pair, key=lambda head: head.best_miou_ or 0.0)
    head = new().fit(data, classes=names, folder=work / "round-1" if recipe.scheme == "feedback" else work, **fit)
    for number in range(2, recipe.rounds + 1 if recipe.scheme == "feedback" else 2):
        again = Retargeted(data, feedback_targets(segmenter, head.module_, spec, names, lessons.sources, data))
        head = new().fit(again, classes=names, folder=work / f"round-{number}", check=False, **fit)
    return head


def _add(
    old: Any, data: HeadData, names: Sequence[str], training: TrainConfig, fit: dict[str, Any]
) -> SegmentationHead:
    """New classes on top of an old head. Held-back masks would know the new classes only, so there are none."""
    module, card = old
    weights = check_targets(data, len(names) + 1, names, threshold=training.threshold)
    fit["about"] = fit["about"] | {"targets": weights.tolist()}
    return add_classes(
        module, card, shifted(data, len(card.classes)), classes=names, threshold=training.threshold,
        training=asdict(training), **fit,
    )  # fmt: skip
