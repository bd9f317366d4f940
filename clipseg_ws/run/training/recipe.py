"""From pictures and masks on disk to a head's file: tokens, split, training by a scheme, saving."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clipseg_ws.heads import SCHEMES
from clipseg_ws.heads.base import Head
from clipseg_ws.heads.course import Course, run_scheme
from clipseg_ws.heads.data import Targets
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.file import HeadCard, load_head, save_head
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.heads.workers import Alone
from clipseg_ws.pictures.sources import Source
from clipseg_ws.run.asked import SPEED
from clipseg_ws.run.training.data import LeftOut, Lessons, open_lessons
from clipseg_ws.run.training.masks import MaskFolder, feedback_targets, feedback_words
from clipseg_ws.run.training.options import Recipe
from clipseg_ws.segmenter import Segmenter

OldHead = tuple[Head, HeadCard]


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
    training, work = training or TrainConfig(threshold=folder.threshold), Path(work)
    if not folder.own:
        folder.fit(sources)
    kept = [s for s in sources if folder.has(s)]
    if not kept:
        raise ValueError(f"none of the {len(sources)} pictures has a mask in {str(folder.masks)!r}")
    say(f"{len(kept)} of {len(sources)} pictures have a mask; {len(folder.names)} classes")
    old = None if recipe.add_to is None else load_head(recipe.add_to)
    spec = _feature_spec(segmenter, recipe, old)
    left_out = LeftOut(work, workers)
    lessons = open_lessons(
        segmenter, spec, kept, folder, recipe, training=training, tokens=Path(tokens or work / "tokens"),
        unlabelled=unlabelled, workers=workers, left_out=left_out,
    )  # fmt: skip
    if left_out.count:
        say(f"{left_out.count} pictures or views left out, see {left_out.path}; the first: {left_out.first}")
    course = _course(segmenter, spec, lessons, recipe, training, folder, old, work, workers)
    head = run_scheme(course, recipe.steps)
    if workers.main:
        save_head(output, head.module_, _card(segmenter, spec, head, lessons, recipe, training))
    workers.wait()
    return head


def _feature_spec(segmenter: Segmenter, recipe: Recipe, old: OldHead | None) -> FeatureSpec:
    """The tokens that the head reads: the old head's, or those of recipe and configuration."""
    if old is not None:
        old[1].check(segmenter.backbone)
        return old[1].features
    config = segmenter.config
    return FeatureSpec(
        recipe.blocks, config.short_side, config.long_side, config.max_patches, config.position_interpolation,
        recipe.more_scales,
    )  # fmt: skip


def _course(
    segmenter: Segmenter, spec: FeatureSpec, lessons: Lessons, recipe: Recipe, training: TrainConfig,
    folder: MaskFolder, old: OldHead | None, work: Path, workers: Alone,
) -> Course:  # fmt: skip
    """What the recipe's scheme trains with."""

    def feed_back(module: Head, blocks: int) -> Targets:
        words = feedback_words(segmenter, folder)
        return feedback_targets(segmenter, module, spec, words, lessons.sources, lessons.data, blocks=blocks)

    about = recipe.as_dict() | spec.as_dict() | {"classes": list(folder.names), "pictures and masks": lessons.digest}
    about |= {"weights": segmenter.backbone.weights_sha256} | _again(segmenter, recipe, folder)
    fit = {"workers": workers, "about": about, "validation": lessons.validation}
    return Course(
        recipe.kind, training, lessons.data, folder.names, recipe.options, work, fit,
        unlabelled=lessons.unlabelled, old=old, feed_back=feed_back,
    )  # fmt: skip


def _again(segmenter: Segmenter, recipe: Recipe, folder: MaskFolder) -> dict[str, Any]:
    """What decides the masks that a scheme makes again by the weak pipeline; nothing for the others."""
    if SCHEMES[recipe.steps.name].about.get("reads") != "feed_back":
        return {}
    settings = {key: value for key, value in segmenter.config_of("weak").as_dict().items() if key not in SPEED}
    made = settings | asdict(feedback_words(segmenter, folder))
    return {f"{key} of the masks made again": value for key, value in made.items()}


def _card(
    segmenter: Segmenter, spec: FeatureSpec, head: SegmentationHead, lessons: Lessons, recipe: Recipe,
    training: TrainConfig,
) -> HeadCard:  # fmt: skip
    """What is written beside the head's weights."""
    record = training.as_dict() | {
        "scheme": recipe.scheme, "pictures": len(lessons.sources), "validation_miou": head.best_miou_,
        "steps_done": head.n_iter_,
    }  # fmt: skip
    backbone, width = segmenter.backbone, lessons.data.width
    return HeadCard(
        head.classes_, backbone.name, backbone.weights_sha256, spec, head.kind, width, dict(head.options), record
    )
