"""Classes added later from tags only, old ones distilled (WILSON; Cermelli et al., CVPR 2022, arXiv 2112.01882).

WILSON's localizer is CLIP here: the masks of the new classes come from tags through the weak pipeline. Where they say
a new class (surely enough) that is the target; everywhere else the old head's own distribution is. A pooled score a
class learns the tags beside. No mask of an old class is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clipseg_ws.heads.base import Head, HeadOutput, make_head
from clipseg_ws.heads.course import Course
from clipseg_ws.heads.data import Batch, HeadData, check_targets
from clipseg_ws.heads.estimator import SegmentationHead
from clipseg_ws.heads.file import HeadCard
from clipseg_ws.heads.identity import digest_of
from clipseg_ws.heads.losses import no_loss, soft_cross_entropy
from clipseg_ws.heads.objective import enlarge
from clipseg_ws.stored import is_sure
from clipseg_ws.structures import IGNORE


def extend_head(old: Head, card: HeadCard, added: int, *, seed: int = 0) -> Head:
    """A head with ``added`` more labels at the end: the old weights, and new rows of every classifier drawn anew."""
    if added < 1:
        raise ValueError(f"{added} classes to add; at least 1 is needed")
    new = make_head(card.kind, old.blocks, old.width, old.labels + added, seed=seed, **card.options)
    state = new.state_dict()
    for key, value in old.state_dict().items():
        if state[key].shape == value.shape:
            state[key] = value.clone()
        else:
            # classifiers have labels * s * s rows, label by label
            state[key][: len(value)] = value
    new.load_state_dict(state)
    return new


def mixed_target(old: Tensor, labels: Tensor, confidence: Tensor, count: int, threshold: float) -> Tensor:
    """The old head's distribution, or the new class where its mask is sure.

    Args:
        old: [B, 1+O, H, W] probabilities of the old head. labels: [B, H, W] in the new numbering; only labels above O
            are read. confidence: [B, H, W]. count: 1 + O + new. threshold: from which confidence a mask is believed.

    Returns:
        [B, count, H, W], sums to 1 over the labels.
    """
    target = F.pad(old, (0, 0, 0, 0, 0, count - old.shape[1]))
    is_new = (labels >= old.shape[1]) & (labels != IGNORE) & is_sure(confidence, threshold)
    hot = F.one_hot(labels.clamp(0, count - 1), count).movedim(-1, 1).to(old.dtype)
    return torch.where(is_new[:, None], hot, target)


def tag_loss(logits: Tensor, tags: Tensor, first: int) -> Tensor:
    """Binary cross-entropy of pooled scores of the labels from ``first`` on.

    A label's score is the mean of its logit margin over the rest, weighted by its softmax over the pixels (normalised
    global weighted pooling). logits [B, K, H, W], tags [B, K - first] in {0, 1}.
    """
    flat = logits.float().flatten(2)  # [B, K, N]
    weights = flat.softmax(1)[:, first:]
    margin = flat[:, first:] - flat.mean(1, keepdim=True)
    pooled = (weights * margin).sum(-1) / weights.sum(-1).clamp_min(1e-6)
    return F.binary_cross_entropy_with_logits(pooled, tags.float())


class Distillation:
    """Further losses of a ``Trainer``: the mixed target and the tags, beside the cross-entropy on sure new pixels.

    Args:
        old: the old head. threshold: see ``mixed_target``. tags: weight of ``tag_loss``.
    """

    def __init__(self, old: Head, *, threshold: float = 0.5, tags: float = 0.1) -> None:
        self.old, self.threshold, self.tags = old.eval().requires_grad_(False), threshold, tags

    def __call__(
        self, module: nn.Module, batch: Batch, output: HeadOutput, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """``distil`` and ``tags``."""
        logits = enlarge(output.logits, batch.labels.shape[-2:])
        with torch.no_grad():
            old = enlarge(self.old.to(logits.device)(batch.features.float()).logits, logits.shape[-2:]).softmax(1)
        first = old.shape[1]
        target = mixed_target(old, batch.labels, batch.confidence, logits.shape[1], self.threshold)
        there = torch.stack([(batch.labels == c).flatten(1).any(1) for c in range(first, logits.shape[1])], 1)
        tags = self.tags * tag_loss(logits, there, first) if self.tags else no_loss(logits)
        return {"distil": soft_cross_entropy(logits, target), "tags": tags}


def add_classes(
    old: Head, card: HeadCard, data: HeadData, *, classes: Sequence[str], threshold: float = 0.5,
    training: dict[str, Any] | None = None, **fit: Any,
) -> SegmentationHead:  # fmt: skip
    """A head that knows the old classes and new ones.

    Args:
        old, card: of ``load_head``. data: pictures with masks of the new classes only, numbered from
            ``len(card.classes) + 1`` on (other labels are not read). classes: names of the new ones, in that order.
        threshold: of ``mixed_target``. training: fields of ``TrainConfig``. fit: goes to ``SegmentationHead.fit``.

    Raises:
        ValueError: a new class that the old head has.
    """
    if known := [name for name in classes if name in card.classes]:
        raise ValueError(
            f"{', '.join(known)} {'is' if len(known) == 1 else 'are'} among the old head's classes already"
        )
    if len(card.classes) + len(classes) >= IGNORE:
        raise ValueError(
            f"{len(card.classes)} old classes and {len(classes)} new ones; at most {IGNORE - 1} fit into 8-bit labels"
        )
    config = {"weighting": "hard", "threshold": threshold, "lr": 3e-4} | dict(training or {})
    head = SegmentationHead(card.kind, options=dict(card.options), **config)
    extra = Distillation(old, threshold=threshold)
    start = extend_head(old, card, len(classes), seed=head.training.seed)
    fresh = only_new(data, len(card.classes))
    return head.fit(fresh, classes=(*card.classes, *classes), extra=extra, start=start, check=False, **fit)


def fit_added(course: Course) -> SegmentationHead:
    """The course's classes on top of its old head.

    Held-back masks would know the new classes only, so no validation is read. Raises ValueError without an old head.
    """
    if course.old is None:
        raise ValueError("no old head was given; classes are added to one, e.g. --add-to old.safetensors")
    (module, card), training, names = course.old, course.training, tuple(course.classes)
    check_targets(course.data, len(names) + 1, names, threshold=training.threshold)
    fit = {key: value for key, value in course.fit.items() if key != "validation"}
    return add_classes(
        module, card, shifted(course.data, len(card.classes)), classes=names, threshold=training.threshold,
        training=training.as_dict(), folder=course.folder, **fit,
    )  # fmt: skip


class Relabelled:
    """The same data with every label looked up in ``table``, uint8 [256]."""

    def __init__(self, data: HeadData, table: np.ndarray) -> None:
        self.data, self.table = data, table
        self.grids, self.blocks, self.width = data.grids, data.blocks, data.width

    def batch(self, index: Sequence[int], seed: tuple[int, ...]) -> Batch:
        """See ``HeadData``."""
        batch = self.data.batch(index, seed)
        table = torch.from_numpy(self.table).long().to(batch.labels.device)
        return replace(batch, labels=table[batch.labels])

    def target(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """See ``HeadData``."""
        labels, confidence = self.data.target(index)
        return self.table[labels], confidence

    def digest(self) -> str:
        """See ``HeadData``."""
        return digest_of(self.data.digest(), self.table)


def only_new(data: HeadData, old: int) -> Relabelled:
    """The data with every label up to ``old`` as 255: what is not known from the new tags."""
    table = np.arange(256, dtype=np.uint8)
    table[: old + 1] = IGNORE
    return Relabelled(data, table)


def shifted(data: HeadData, by: int) -> Relabelled:
    """The data with every class numbered ``by`` higher; background and 255 stay."""
    table = np.arange(256, dtype=np.uint8)
    table[1:IGNORE] += np.uint8(by)
    return Relabelled(data, table)
