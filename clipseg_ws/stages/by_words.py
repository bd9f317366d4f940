"""The answerer by words: a softmax over all words at every pixel, as the dense zero-shot papers decide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clipseg_ws.activations.textscores import class_probabilities, drop_small_classes
from clipseg_ws.config import Config
from clipseg_ws.pictures.loading import grouped
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.sizes import resize_maps
from clipseg_ws.refine import REFINERS
from clipseg_ws.stages.answerer import COMMON, NAMES, step_keys
from clipseg_ws.stages.constrain import constrained_label, spread_seeds
from clipseg_ws.stages.decide import Decision, image_batch, narrow, refined
from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.stages.in_regions import named_regions
from clipseg_ws.stages.instances import instances
from clipseg_ws.stages.labelled import ask_labeller
from clipseg_ws.stages.labels import label, label_words, spread_labels
from clipseg_ws.stages.many_words import many_word_probabilities, most_pictures
from clipseg_ws.stages.question import Known, Question
from clipseg_ws.stages.transfer import on_host
from clipseg_ws.stages.windows import picture_word_logits
from clipseg_ws.structures import TextEmbeddings
from clipseg_ws.weak.constraints import Constraints


class ByWords:
    """See ``Answerer``.

    Args:
        encoder: with the models and the configuration, pictures not cut to whole patches.
    """

    name = "words"

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self.config = encoder, encoder.config
        self.reads = words_reads(self.config)

    def picture(self, image: Any, source: str | None = None) -> Picture:
        """See ``Answerer``."""
        return self.encoder.picture(image, source)

    def decide(self, pictures: Sequence[Picture], question: Question, known: Known) -> list[Decision]:
        """See ``Answerer``; as many pictures at once as memory allows, those with marks one by one."""
        assert question.text is not None
        most = most_pictures(pictures, len(question.text.owner))
        if most == 0 and self.encoder.labeller is not None:
            raise ValueError(
                f"{len(question.text.vocabulary.names)} classes are too many for a labeller, which is asked for each; "
                "give fewer, or leave out labeller (--labeller)"
            )
        if most == 0 and known.marks is None:
            return [self._many_words(p, question.text, _row(known.present, i)) for i, p in enumerate(pictures)]
        step = 1 if known.marks is not None else max(1, most)
        made: list[Decision] = []
        for start in range(0, len(pictures), step):
            rows = range(start, min(start + step, len(pictures)))
            made += self._some([pictures[i] for i in rows], question.text, known.rows(rows, question.text.owner.device))
        return made

    def _some(self, pictures: Sequence[Picture], text: TextEmbeddings, known: Known) -> list[Decision]:
        """Pictures of one grid, at network size together, at their own sizes size by size."""
        logits = picture_word_logits(self.encoder, pictures, text.vectors.float())
        allowed = None if known.present is None else known.present.to(logits.device)
        answers: dict[int, Decision] = {}
        for rows in grouped([picture.size for picture in pictures]):
            whole = len(rows) == len(pictures)
            mine = resize_maps(logits if whole else logits[rows], pictures[rows[0]].size)
            mine = self._refined([pictures[i] for i in rows], mine)
            count = len(text.vocabulary.names)
            permitted = allowed if allowed is None or whole else allowed[rows]
            probabilities = class_probabilities(mine, text.owner, count, self._scale(), permitted)
            probabilities = self._refined_classes([pictures[i] for i in rows], probabilities)
            probabilities = self._with_labeller([pictures[i] for i in rows], probabilities, text, permitted)
            marks = None if known.marks is None else known.marks[rows[0]]
            answers.update(zip(rows, self._labelled([pictures[i] for i in rows], probabilities, marks), strict=True))
        return [answers[i] for i in range(len(pictures))]

    def _labelled(
        self, pictures: Sequence[Picture], probabilities: Tensor, marks: Constraints | None
    ) -> list[Decision]:
        """[B, 1+C, H, W] of pictures of one size -> their decisions; with ``marks`` there is one of them."""
        config = self.config
        labels, confidence, probabilities = self._decided(pictures, probabilities)
        if marks is not None:
            probabilities = _without_small(probabilities, config.area_threshold, marks)
            floor = torch.zeros_like(probabilities)
            floor[:, 0] = config.background_threshold
            seen = image_batch(pictures, probabilities)[0]
            probabilities = spread_seeds(torch.maximum(probabilities, floor)[0], seen, marks)[None]
            labels, confidence = constrained_label(probabilities, marks)
        return decisions(labels, confidence, probabilities, config, marks)

    def _many_words(self, picture: Picture, text: TextEmbeddings, allowed: Tensor | None) -> Decision:
        """One picture, for a vocabulary whose words do not fit at every pixel."""
        tags = None if allowed is None else allowed.nonzero().flatten().tolist()
        probabilities, classes, scores = many_word_probabilities(
            self.encoder, picture, text, tags, lambda logits: self._refined([picture], logits)
        )
        config = self.config
        probabilities = self._refined_classes([picture], probabilities)
        labels, confidence, probabilities = self._decided([picture], probabilities)
        index = torch.tensor([classes], dtype=torch.int64, device=labels.device)
        wide = config.keep_maps or config.instances
        host = on_host(
            labels=narrow(spread_labels(labels, index), len(scores))[0], sure=confidence[0].float(), scores=scores,
            kept=probabilities[0, 1:].float() if wide else None,
        )  # fmt: skip
        kept, own = host["kept"], host["labels"]
        assert own is not None and host["sure"] is not None and host["scores"] is not None
        things = instances(own, kept, classes, None) if config.instances and kept is not None else None
        return Decision(own, host["sure"], host["scores"], classes, kept, instances=things)

    def _decided(self, pictures: Sequence[Picture], probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Labels and confidence [B, H, W] of probabilities [B, 1+K, H, W] of pictures of one size, and these after
        the votes of regions, in which what stays below the threshold votes for the background."""
        config = self.config
        if config.step("votes") is None:
            return *label_words(probabilities, config.background_threshold, config.area_threshold), probabilities
        if config.area_threshold > 0:
            probabilities = drop_small_classes(probabilities, config.area_threshold)
        floor = torch.zeros_like(probabilities)
        floor[:, 0] = config.background_threshold
        probabilities = named_regions(torch.maximum(probabilities, floor), pictures, config)
        return *label(probabilities), probabilities

    def _refined(self, pictures: Sequence[Picture], logits: Tensor) -> Tensor:
        """Only the words that win somewhere: refining all of a large vocabulary takes seconds and gigabytes."""
        if of_classes(self.config):
            return logits
        winners = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
        winners = winners.scatter(1, logits.argmax(1).flatten(1), True)
        return refined(logits, pictures, self.config, channels=winners)

    def _with_labeller(
        self, pictures: Sequence[Picture], probabilities: Tensor, text: TextEmbeddings, permitted: Tensor | None
    ) -> Tensor:
        """Probabilities [B, 1+C, H, W] joined with what the labeller finds of the permitted classes [B, C]."""
        labelled = ask_labeller(self.encoder.labeller, pictures, text.vocabulary)
        if labelled is None:
            return probabilities
        every = torch.arange(probabilities.shape[1] - 1).expand(len(pictures), -1)
        return labelled.joined(probabilities, every if permitted is None else every.where(permitted.cpu(), -1))

    def _refined_classes(self, pictures: Sequence[Picture], probabilities: Tensor) -> Tensor:
        """Probabilities [B, 1+C, H, W] after a refiner that looks at classes, not at words; below the threshold is
        background for it too."""
        if not of_classes(self.config):
            return probabilities
        floor = torch.zeros_like(probabilities)
        floor[:, 0] = self.config.background_threshold
        return refined(torch.maximum(probabilities, floor), pictures, self.config)

    def _scale(self) -> float:
        return self.encoder.backbone.logit_scale if self.config.logit_scale is None else self.config.logit_scale


def decisions(
    labels: Tensor, confidence: Tensor, probabilities: Tensor, config: Config, marks: Constraints | None
) -> list[Decision]:
    """Tensors of b pictures of one size, every class scored -> their decisions; one transfer each."""
    every = list(range(probabilities.shape[1] - 1))
    wide = config.keep_maps or config.instances
    host = on_host(
        labels=narrow(labels, len(every)), sure=confidence.float(), scores=probabilities[:, 1:].flatten(2).amax(2),
        kept=probabilities[:, 1:].float() if wide else None,
    )  # fmt: skip
    everywhere, sure, scores, kept = (host[name] for name in ("labels", "sure", "scores", "kept"))
    assert everywhere is not None and sure is not None and scores is not None
    made = []
    for row in range(len(labels)):
        own = None if kept is None else kept[row]
        things = instances(everywhere[row], own, every, marks) if config.instances and own is not None else None
        made.append(Decision(everywhere[row], sure[row], scores[row], every, own, instances=things))
    return made


def _without_small(probabilities: Tensor, area_threshold: float, marks: Constraints) -> Tensor:
    """``drop_small_classes`` on [1, 1+C, H, W]; a class that a mark names stays."""
    if area_threshold <= 0:
        return probabilities
    rows = marks.named()
    kept = drop_small_classes(probabilities, area_threshold)
    kept[:, rows] = probabilities[:, rows]
    return kept


def of_classes(config: Config) -> bool:
    """Whether the refiner wants all classes at once, background first."""
    return REFINERS[config.refine.partition("(")[0]].about.get("channels") == "all"


def _row(present: Tensor | None, row: int) -> Tensor | None:
    return None if present is None else present[row]


def words_reads(config: Config) -> frozenset[str]:
    """Keys of settings that a decision by words reads in this configuration."""
    reads = set(COMMON | NAMES) | step_keys(config, "words")
    reads |= {"decision", "labeller", "dense_mode", "window", "background_threshold", "area_threshold", "cache_mb"}
    reads |= {"stride", "pad_windows"} if config.window else set()
    fused = config.step("layer_fusion")
    return frozenset(reads | ({"attention_blocks"} if fused and fused["kind"] == "early" else set()))
