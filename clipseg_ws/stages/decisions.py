"""One picture's scores at its own size, refined with the picture, and decided: the last step before a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clipseg_ws.activations.textscores import class_probabilities
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.config import Config
from clipseg_ws.pictures.sizes import resize_maps
from clipseg_ws.refine.picture import refine_picture
from clipseg_ws.stages.constrain import apply_constraints, box_maps, constrained_label, spread_seeds
from clipseg_ws.stages.instances import instances
from clipseg_ws.stages.labels import label, label_words, spread_labels, with_background
from clipseg_ws.stages.many_words import many_word_probabilities, too_many_words
from clipseg_ws.stages.maps import ClassMaps
from clipseg_ws.stages.windows import picture_word_logits
from clipseg_ws.structures import TextEmbeddings
from clipseg_ws.weak.constraints import Constraints


@dataclass(frozen=True, eq=False)
class Decision:
    """One picture's answer.

    Attributes:
        labels: [H, W] int64 in the whole vocabulary. confidence: [H, W] in [0, 1].
        scores: [C] image-level score of every class.
        classes: vocabulary indices of the K classes that were scored at every pixel. kept: [K, H, W] their scores.
        support_iou: [S] of ``ClassMaps``, or None.
        instances: [H, W] int32, 0 for none; None where they were not asked for.
    """

    labels: Tensor
    confidence: Tensor
    scores: Tensor
    classes: list[int]
    kept: Tensor
    support_iou: Tensor | None = None
    instances: np.ndarray | None = None

    def maps(self) -> Tensor:
        """[C, H, W] float32, zero for classes that were not scored."""
        full = self.kept.new_zeros(len(self.scores), *self.kept.shape[1:], dtype=torch.float32)
        full[self.classes] = self.kept.float()
        return full


def decide_maps(
    picture: Image.Image, maps: ClassMaps, row: int, config: Config, marks: Constraints | None = None
) -> Decision:
    """Image ``row`` of a batch of maps: enlarged, background put in front, refined, arg-max that respects ``marks``."""
    size = (picture.height, picture.width)
    classes = maps.classes[row]
    kept = resize_maps(maps.maps[row : row + 1, : len(classes)].float(), size)
    if marks is not None:
        marks = marks.select(classes)
        kept = box_maps(kept[0], marks)[None]
    other = None if maps.background is None else resize_maps(maps.background[row : row + 1, None].float(), size)[:, 0]
    scores = with_background(
        kept, config.background_rule, alpha=config.alpha, threshold=config.background_threshold, background=other
    )
    if marks is not None:
        scores = apply_constraints(spread_seeds(scores[0], _pixels(picture, scores)[0], marks)[None], marks)
    scores = _refined(scores, picture, config)
    labels, confidence = _labelled(scores, marks, config.min_area)
    index = torch.tensor(classes, dtype=torch.int64, device=labels.device)
    labels, kept = spread_labels(labels[0], index), scores[0, 1:]
    things = instances(labels, kept, classes, marks) if config.instances else None
    iou = None if maps.support_iou is None else maps.support_iou[row]
    return Decision(labels, confidence[0], maps.scores[row], classes, kept, iou, instances=things)


def decide_words(
    backbone: OpenClipBackbone,
    picture: Image.Image,
    text: TextEmbeddings,
    config: Config,
    tags: list[int] | None,
    marks: Constraints | None = None,
    features: Any = None,
) -> Decision:
    """Softmax over all words at every pixel; the words of classes that are not among ``tags`` do not take part."""
    if marks is None and too_many_words(picture, len(text.owner), config):
        return _decide_many_words(backbone, picture, text, config, tags, features)
    logits = picture_word_logits(backbone, picture, text.vectors.float(), config, features)
    logits = resize_maps(logits, (picture.height, picture.width))
    logits = _refined_winners(logits, picture, config)
    count = len(text.vocabulary.names)
    allowed = None
    if tags is not None:
        allowed = torch.zeros(1, count, dtype=torch.bool, device=logits.device)
        allowed[0, tags] = True
    scale = backbone.logit_scale if config.logit_scale is None else config.logit_scale
    probabilities = class_probabilities(logits, text.owner, count, scale, allowed)
    labels, confidence = label_words(probabilities, config.background_threshold, config.area_threshold)
    if marks is not None:
        floor = torch.zeros_like(probabilities)
        floor[:, 0] = config.background_threshold
        probabilities = spread_seeds(torch.maximum(probabilities, floor)[0], _pixels(picture, probabilities)[0], marks)[
            None
        ]
        labels, confidence = constrained_label(probabilities, marks)
    kept = probabilities[0, 1:]
    everything = list(range(count))
    things = instances(labels[0], kept, everything, marks) if config.instances else None
    return Decision(labels[0], confidence[0], kept.flatten(1).amax(1), everything, kept, instances=things)


def _decide_many_words(
    backbone: OpenClipBackbone,
    picture: Image.Image,
    text: TextEmbeddings,
    config: Config,
    tags: list[int] | None,
    features: Any,
) -> Decision:
    """``decide_words`` for a vocabulary whose words do not fit at every pixel."""
    probabilities, classes, scores = many_word_probabilities(
        backbone, picture, text, config, tags, features, lambda logits: _refined_winners(logits, picture, config)
    )
    labels, confidence = label_words(probabilities, config.background_threshold, config.area_threshold)
    index = torch.tensor(classes, dtype=torch.int64, device=labels.device)
    return Decision(spread_labels(labels[0], index), confidence[0], scores, classes, probabilities[0, 1:])


def _refined_winners(logits: Tensor, picture: Image.Image, config: Config) -> Tensor:
    """Only the words that win somewhere: refining all of a large vocabulary takes seconds and gigabytes."""
    winners = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    winners[logits[0].argmax(0).unique()] = True
    return _refined(logits, picture, config, channels=winners)


def _refined(scores: Tensor, picture: Image.Image, config: Config, channels: Tensor | None = None) -> Tensor:
    """``refine_picture`` with the configured refiner; scores [1, C, H, W]."""
    if config.refine == "none" or not scores.shape[1]:
        return scores
    return refine_picture(config.refine, scores, _pixels(picture, scores), channels=channels)


def _pixels(picture: Image.Image, like: Tensor) -> Tensor:
    """uint8 [1, 3, H, W] on the device of ``like``."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].to(like.device)


def _labelled(scores: Tensor, marks: Constraints | None, min_area: float) -> tuple[Tensor, Tensor]:
    if marks is None:
        return label(scores, min_area=min_area)
    return constrained_label(scores, marks, min_area=min_area)
