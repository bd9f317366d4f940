"""Scores at picture size, refined with the pictures, and decided: the last step before a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clipseg_ws.config import Config
from clipseg_ws.pictures.loading import grouped
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.sizes import resize_maps
from clipseg_ws.refine.picture import refine_picture
from clipseg_ws.stages.classmaps import ClassMaps
from clipseg_ws.stages.constrain import apply_constraints, box_maps, constrained_label, spread_seeds
from clipseg_ws.stages.in_regions import crisp_regions, named_regions
from clipseg_ws.stages.instances import instances
from clipseg_ws.stages.labelled import Labelled
from clipseg_ws.stages.labels import drop_small, label, spread_labels, with_background
from clipseg_ws.stages.large import enlarged_labels, fewer_pixels
from clipseg_ws.stages.transfer import on_host
from clipseg_ws.weak.constraints import Constraints

CELLS = 2**26  # channels times pixels that are decided together: 256 MiB in float32


@dataclass(frozen=True, eq=False)
class Decision:
    """One picture's answer, on the host.

    Attributes:
        labels: [H, W] int64 in the whole vocabulary. confidence: [H, W] float32 in [0, 1].
        scores: [C] image-level score of every class.
        classes: vocabulary indices of the K classes that were scored at every pixel. kept: [K, H, W] their scores, None
            where nothing reads them.
        support_iou: [S] of ``ClassMaps``, or None.
        instances: [H, W] int32, 0 for none; None where they were not asked for.

    Raises:
        FloatingPointError: NaN in the maps: the weights hold some, or numbers overflowed in half precision.
    """

    labels: NDArray[Any]
    confidence: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: list[int]
    kept: NDArray[np.float32] | None = None
    support_iou: NDArray[np.float32] | None = None
    instances: NDArray[np.int32] | None = None

    def __post_init__(self) -> None:
        if np.isnan(self.confidence).any() or np.isnan(self.scores).any():
            raise FloatingPointError(
                "the maps of this picture hold NaN: numbers overflowed in half precision, or the model's weights hold "
                "NaN; try dtype='float32' (--dtype float32), else fetch the weights again"
            )

    def maps(self) -> NDArray[np.float32]:
        """[C, H, W] float32, zero for classes that were not scored."""
        assert self.kept is not None
        full = np.zeros((len(self.scores), *self.kept.shape[1:]), np.float32)
        full[self.classes] = self.kept
        return full


def decide_maps(
    pictures: Sequence[Picture], maps: ClassMaps, config: Config, marks: Sequence[Constraints] | None = None,
    labelled: Labelled | None = None,
) -> list[Decision]:
    """Maps of B pictures: enlarged, background put in front, refined, arg-max that respects the marks.

    Pictures of one size are decided together, as many as ``CELLS`` allows; those with marks one by one. Those of more
    than ``max_pixels`` are refined and decided at a working size and then enlarged, see ``large``.
    """
    answers: dict[int, Decision] = {}
    channels = 1 + maps.classes.shape[1]
    for size_group in grouped([picture.size for picture in pictures]):
        size = pictures[size_group[0]].size
        height, width = fewer_pixels(size, config.max_pixels)
        cells = max(channels * height * width, size[0] * size[1])
        most = 1 if marks is not None else max(1, CELLS // cells)
        for start in range(0, len(size_group), most):
            rows = size_group[start : start + most]
            mark = None if marks is None else marks[rows[0]]
            said = None if labelled is None else labelled.rows(rows)
            made = _decide_size([pictures[i] for i in rows], _rows(maps, rows), config, mark, said)
            answers.update(zip(rows, made, strict=True))
    return [answers[i] for i in range(len(pictures))]


def _rows(maps: ClassMaps, rows: Sequence[int]) -> ClassMaps:
    """Some of the pictures; the very maps where it is all of them."""
    if len(rows) == len(maps.classes):
        return maps
    index = list(rows)
    background = None if maps.background is None else maps.background[index]
    iou = None if maps.support_iou is None else maps.support_iou[index]
    return ClassMaps(maps.classes[index], maps.maps[index], maps.scores[index], background, iou)


def _decide_size(
    pictures: Sequence[Picture], maps: ClassMaps, config: Config, marks: Constraints | None,
    labelled: Labelled | None = None,
) -> list[Decision]:
    """Pictures of one size; with ``marks`` there is one of them."""
    whole = pictures[0].size
    full = marks is not None or config.keep_maps or config.instances  # these are asked for at every pixel
    size = whole if full else fewer_pixels(whole, config.max_pixels)
    if marks is not None:
        own = [c for c in maps.classes[0].tolist() if c >= 0]
        marks = marks.select(own)
        maps = replace(maps, classes=maps.classes[:, : len(own)], maps=maps.maps[:, : len(own)])
    kept = resize_maps(maps.maps.float(), size)
    if marks is not None:
        kept = box_maps(kept[0], marks)[None]
    other = None if maps.background is None else resize_maps(maps.background[:, None].float(), size)[:, 0]
    scores = with_background(
        kept, config.background_rule, alpha=config.alpha, threshold=config.background_threshold, background=other
    )
    if marks is not None:
        seen = image_batch(pictures, scores)[0]
        scores = apply_constraints(spread_seeds(scores[0], seen, marks)[None], marks)
    scores = refined(scores, pictures, config)
    scores = scores if labelled is None else labelled.joined(scores, maps.classes)
    scores = named_regions(scores, pictures, config)
    if size != whole:
        scores = drop_small(scores, config.min_area)
        labels, confidence = enlarged_labels(scores, whole, maps.classes)
        labels, confidence = crisp_regions(labels, confidence, scores, maps.classes, pictures, config)
    else:
        labels, confidence = _labelled(scores, marks, config.min_area)
        labels = spread_labels(labels, maps.classes)
    return _on_host(labels, confidence, scores, maps, config, marks)


def _on_host(
    labels: Tensor, confidence: Tensor, scores: Tensor, maps: ClassMaps, config: Config, marks: Constraints | None
) -> list[Decision]:
    """Tensors of b pictures of one size -> their decisions; one transfer each."""
    wide = config.keep_maps or config.instances
    host = on_host(
        labels=narrow(labels, maps.scores.shape[1]), sure=confidence.float(), scores=maps.scores, classes=maps.classes,
        kept=scores[:, 1:].float() if wide else None, iou=maps.support_iou,
    )  # fmt: skip
    everywhere, sure, image_scores, classes = (host[name] for name in ("labels", "sure", "scores", "classes"))
    assert everywhere is not None and sure is not None and image_scores is not None and classes is not None
    kept, iou = host["kept"], host["iou"]
    decisions = []
    for row, padded in enumerate(classes.tolist()):
        mine = [c for c in padded if c >= 0]
        own = None if kept is None else kept[row, : len(mine)]
        things = instances(everywhere[row], own, mine, marks) if config.instances and own is not None else None
        decisions.append(
            Decision(everywhere[row], sure[row], image_scores[row], mine, own, None if iou is None else iou[row],
                     things)
        )  # fmt: skip
    return decisions


def narrow(labels: Tensor, classes: int) -> Tensor:
    """Labels in the dtype of results: uint8, from 255 classes on int32."""
    return labels.to(torch.uint8 if classes < 255 else torch.int32)


def refined(scores: Tensor, pictures: Sequence[Picture], config: Config, channels: Tensor | None = None) -> Tensor:
    """``refine_picture`` with the configured refiner; scores [B, C, H, W] of pictures of one size.

    ``channels``: [B, C] bool, those to refine; None: all that hold something.
    """
    if config.refine == "none" or not scores.shape[1]:
        return scores
    return refine_picture(config.refine, scores, image_batch(pictures, scores), channels=channels)


def image_batch(pictures: Sequence[Picture], like: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] of pictures of one size, as large and on the device of ``like`` [B, C, H, W]."""
    size = (like.shape[-1], like.shape[-2])
    images = [p.image if p.image.size == size else p.image.resize(size, Image.Resampling.BOX) for p in pictures]
    return torch.from_numpy(np.stack([np.asarray(i) for i in images])).to(like.device).permute(0, 3, 1, 2).contiguous()


def _labelled(scores: Tensor, marks: Constraints | None, min_area: float) -> tuple[Tensor, Tensor]:
    if marks is None:
        return label(scores, min_area=min_area)
    return constrained_label(scores, marks, min_area=min_area)
