"""From pictures and masks on disk to a head's file: tokens, split, training by a scheme, saving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.head_masks import MaskFolder, feedback_targets, shrink_targets
from clipseg_ws.head_views import Donors, Views, token_key
from clipseg_ws.heads.augment import AugmentedData
from clipseg_ws.heads.consistency import Consistency
from clipseg_ws.heads.cotrain import cotrain
from clipseg_ws.heads.data import HeadData, Retargeted, Targets, check_targets
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.features import FeatureSpec
from clipseg_ws.heads.head_file import HeadCard, load_head, save_head
from clipseg_ws.heads.incremental import add_classes
from clipseg_ws.heads.rounds import fit_rounds
from clipseg_ws.heads.token_store import StoredData, TokenStore
from clipseg_ws.heads.training import TrainConfig
from clipseg_ws.heads.workers import Alone
from clipseg_ws.images import read_image
from clipseg_ws.pipeline import Segmenter
from clipseg_ws.sources import Source

SCHEMES = ("plain", "consistency", "rounds", "cotrain", "feedback")
THRESHOLDS = {"crf": 0.95, "none": 0.8}  # by the masks' refiner; CLIP-ES's 0.95 is meant for a CRF's probabilities
OTHER_THRESHOLD = 0.5  # the guided filter's and the like are less sharp


@dataclass(frozen=True)
class Recipe:
    """What is trained, and how; ``TrainConfig`` has the rest.

    Attributes:
        kind, options: of the head. blocks, more_scales: what it reads, see ``FeatureSpec``.
        detail: targets are this many times the grid.
        validation: share of the pictures that are held back for early stop and the choice of weights.
        views: of every picture in the token store, the plain one and augmented ones.
        augment: encode new views at every visit instead of tokens on disk.
        paste: most things of other pictures that are pasted into an augmented view, 0: none (see ``heads.paste``).
        scheme: one of ``SCHEMES``. rounds: of the schemes that have some. sure: probability from which a head's own
            label is believed (rounds, cotrain). add_to: a head's file whose classes are kept (WILSON).
    """

    kind: str = "decoder"
    options: Mapping[str, Any] = field(default_factory=dict)
    blocks: tuple[int, ...] = (-3, -2, -1)
    more_scales: tuple[float, ...] = ()
    detail: int = 4
    validation: float = 0.1
    views: int = 1
    augment: bool = False
    paste: int = 0
    scheme: str = "plain"
    rounds: int = 2
    sure: float = 0.8
    add_to: str | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme {self.scheme!r} is unknown; choose one of {', '.join(SCHEMES)}, e.g. 'plain'")
        if not 0 <= self.validation < 1 or self.detail < 1 or self.views < 1:
            raise ValueError(
                f"validation={self.validation}, detail={self.detail}, views={self.views}; a share in [0, 1) and whole "
                "numbers of at least 1 are needed, for example 0.1, 4 and 1"
            )
        if self.paste < 0 or (self.paste and self.views == 1 and not self.augment):
            raise ValueError(f"paste={self.paste}; a number from 0 on, above 0 with views=2 or more, or augment")
        if self.scheme == "feedback" and (self.views > 1 or self.augment):
            raise ValueError("the scheme 'feedback' makes masks of whole pictures: views=1, without augment")
        if self.add_to is not None and self.scheme != "plain":
            raise ValueError(f"add_to goes with the scheme 'plain', got {self.scheme!r}")


def default_threshold(folder: MaskFolder) -> float:
    """The confidence from which a pixel of these masks counts, where the user names none."""
    return THRESHOLDS.get(folder.refine.split("+")[-1], OTHER_THRESHOLD)


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
    learn, held = _split(len(kept), recipe.validation, training.seed)
    donors = Donors([kept[i] for i in learn], folder, recipe.paste)  # what is held back is not seen in other pictures
    views = Views(kept, folder, recipe.views, donors)
    store = _tokens(segmenter, spec, views, unlabelled, Path(tokens or work / "tokens"), workers)
    plain = Views(kept, folder, 1)
    validation = _stored(store, plain, held, recipe.detail) if held else None
    part: HeadData
    if recipe.augment:
        part = _augmented(segmenter, spec, plain, learn, donors, recipe.detail)
    else:
        part = _stored(store, views, [i + v * len(kept) for v in range(recipe.views) for i in learn], recipe.detail)
    about = asdict(replace(recipe, add_to=None)) | spec.as_dict()  # where an old head lies does not matter
    fit: dict[str, Any] = {"validation": validation, "workers": workers, "about": about}
    names = folder.names
    if old is not None:
        names, head = _add(old, part, folder.names, training, fit | {"folder": work})
    else:
        head = _fit(
            segmenter, spec, part, [kept[i] for i in learn], recipe, training, folder, store, unlabelled, fit, work
        )
    card = HeadCard(
        tuple(names), segmenter.backbone.name, segmenter.backbone.weights_sha256, spec, head.kind, store.width,
        dict(head.options), {**asdict(training), "scheme": recipe.scheme, "pictures": len(learn),
                             "validation_miou": head.best_miou_, "steps_done": head.n_iter_},
    )  # fmt: skip
    if workers.main:
        save_head(output, head.module_, card)
    workers.wait()
    return head


def _tokens(
    segmenter: Segmenter, spec: FeatureSpec, views: Views, unlabelled: Sequence[Source], folder: Path, workers: Alone
) -> TokenStore:
    """The store, filled by the first process while the others wait."""
    if workers.main:
        others = {token_key(source): source for source in unlabelled}
        load = lambda key: read_image(others[key]) if key in others else views.picture(key)  # noqa: E731
        TokenStore(folder, segmenter.backbone, spec).build([*views.keys, *others], load)
    workers.wait()
    return TokenStore(folder, segmenter.backbone, spec)


def _stored(store: TokenStore, views: Views, numbers: Sequence[int], detail: int) -> StoredData:
    """Tokens on disk with the masks of the same views."""
    keys = [views.keys[n] for n in numbers]
    masks = (views.masks(n) for n in numbers)
    return StoredData(store, keys, shrink_targets(masks, [store.entries[key].grid for key in keys], detail))


def _split(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Numbers to learn from and numbers held back; at least one stays to learn from."""
    order = np.random.default_rng((seed, 7)).permutation(count).tolist()
    held = min(round(count * share), count - 1)
    return sorted(order[held:]), sorted(order[:held])


def _augmented(
    segmenter: Segmenter, spec: FeatureSpec, views: Views, numbers: Sequence[int], donors: Donors, detail: int
) -> AugmentedData:
    sizes = [read_image(views.sources[n]).size for n in numbers]
    return AugmentedData(
        segmenter.backbone, spec, lambda i: views.load(numbers[i]), sizes, detail=detail, change=donors.paste
    )


def _fit(
    segmenter: Segmenter, spec: FeatureSpec, data: HeadData, sources: Sequence[Source], recipe: Recipe,
    training: TrainConfig, folder: MaskFolder, store: TokenStore, unlabelled: Sequence[Source], fit: dict[str, Any],
    work: Path,
) -> SegmentationHead:  # fmt: skip
    """Train by the recipe's scheme."""
    names = folder.names

    def new(seed: int = 0) -> SegmentationHead:
        params = asdict(training) | {"seed": training.seed + seed}
        return SegmentationHead(recipe.kind, options=dict(recipe.options), **params)

    if recipe.scheme == "consistency":
        return new().fit(data, classes=names, folder=work, extra=Consistency(), **fit)
    if recipe.scheme == "rounds":
        return fit_rounds(new(), data, classes=names, rounds=recipe.rounds, threshold=recipe.sure, folder=work, **fit)
    if recipe.scheme == "cotrain":
        if not unlabelled:
            raise ValueError("the scheme 'cotrain' needs pictures without labels: --unlabelled FOLDER")
        keys = [token_key(s) for s in unlabelled]
        blank = [np.full((1, 1), 255, np.uint8)] * len(keys)  # never read
        free = StoredData(store, keys, Targets(blank, blank))
        pair = cotrain([new(), new(1)], data, free, classes=names, rounds=recipe.rounds, threshold=recipe.sure,
                       folder=work, **fit)  # fmt: skip
        return max(pair, key=lambda head: head.best_miou_ or 0.0)
    head = new().fit(data, classes=names, folder=work / "round-1" if recipe.scheme == "feedback" else work, **fit)
    for number in range(2, recipe.rounds + 1 if recipe.scheme == "feedback" else 2):
        targets = feedback_targets(segmenter, head.module_, spec, names, sources, data)
        again = Retargeted(data, targets)
        head = new().fit(again, classes=names, folder=work / f"round-{number}", check=False, **fit)
    return head


def _add(
    old: Any, data: HeadData, names: Sequence[str], training: TrainConfig, fit: dict[str, Any]
) -> tuple[tuple[str, ...], SegmentationHead]:
    """New classes on top of an old head; the masks' labels are moved behind the old ones."""
    module, card = old
    first = len(card.classes)
    moved = []
    weights = check_targets(data, len(names) + 1, names, threshold=training.threshold)
    for i in range(len(data.grids)):
        labels, confidence = data.target(i)
        shifted = np.where((labels > 0) & (labels < 255), labels.astype(np.int64) + first, labels)
        moved.append((shifted.astype(np.uint8), confidence))
    data = Retargeted(data, Targets([m for m, _ in moved], [c for _, c in moved]))
    fit = fit | {"validation": None}  # held-back masks know the new classes only
    fit["about"] = fit["about"] | {"targets": weights.tolist()}
    head = add_classes(
        module, card, data, classes=names, threshold=training.threshold, training=asdict(training), **fit
    )
    return (*card.classes, *names), head
