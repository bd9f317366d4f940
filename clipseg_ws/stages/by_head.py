"""A trained head inside a Segmenter: one forward pass, no prompts; its classes are the vocabulary."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from clipseg_ws.activations.multiscale import mirror, resized
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.config import Config
from clipseg_ws.heads.base import Head
from clipseg_ws.heads.features import encode_features, encode_tokens
from clipseg_ws.heads.file import load_head
from clipseg_ws.heads.objective import enlarge
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.stages.answerer import COMMON, step_keys
from clipseg_ws.stages.classmaps import ClassMaps, members
from clipseg_ws.stages.decide import Decision, decide_maps
from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.stages.grid_marks import GridMarks, grid_marks
from clipseg_ws.stages.looks import AS_IT_IS, wanted_looks
from clipseg_ws.stages.map_steps import structure_layers
from clipseg_ws.stages.maps import spread_maps
from clipseg_ws.stages.question import Known, Question
from clipseg_ws.structures import Seen, Vocabulary, word_key
from clipseg_ws.text.matching import find_class
from clipseg_ws.text.vocabulary import parse_classes
from clipseg_ws.weak.constraints import Constraints


class TrainedHead:
    """A head from a file, ready to answer.

    Args:
        path: a safetensors file of ``clipseg-ws train``.

    Raises:
        FileNotFoundError, ValueError: see ``load_head``.
    """

    def __init__(self, path: str | Path) -> None:
        module, card = load_head(path)
        self.path, self.card = str(path), card
        self.module: Head = module
        self.sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()

    def attach(self, backbone: Backbone) -> TrainedHead:
        """Check that the head belongs to these weights and move it to their device; returns self."""
        self.card.check(backbone)
        self.module = self.module.to(backbone.device)
        return self

    def describe(self) -> dict[str, Any]:
        """JSON-able, for the record of a result."""
        card = self.card
        return {"file": Path(self.path).name, "sha256": self.sha256, "kind": card.kind, "training": dict(card.training)}

    def vocabulary(self, classes: Any = None, background: Any = None) -> Vocabulary:
        """The head's classes, or those of them that are asked for.

        Raises ValueError for a class that the head was not trained on, and for background words.
        """
        if background:
            raise ValueError(f"background={background!r}: the head {self.path!r} learned its own, it reads no words")
        if classes is None:
            names, asked = self.card.classes, None
        else:
            asked = parse_classes(classes)
            names = asked.names
            if strangers := [name for name, place in zip(names, self.places(asked), strict=True) if place is None]:
                raise ValueError(
                    f"{', '.join(map(repr, strangers))}: the head {self.path!r} was not trained on that; its classes "
                    f"are {', '.join(self.card.classes)}"
                )
        synonyms = tuple((name,) for name in names) if asked is None else asked.synonyms
        return Vocabulary(tuple(names), synonyms, (), templates=("{}",))

    def places(self, vocabulary: Vocabulary) -> list[int | None]:
        """Index of the head's class that each class of a vocabulary is, by its name or a synonym; None: of none."""
        index = {word_key(name): i for i, name in enumerate(self.card.classes)}
        pairs = zip(vocabulary.names, vocabulary.synonyms, strict=True)
        return [find_class(index, ",".join((name, *words))) for name, words in pairs]

    @torch.no_grad()
    def scores(self, features: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Tokens [B, L, D, h, w] -> probabilities [B, 1+C, h', w'] of background and the vocabulary's classes."""
        chosen = [0, *(place + 1 for place in self.places(vocabulary) if place is not None)]
        probabilities: Tensor = self.module(features.float()).logits.float()[:, chosen].softmax(1)
        return probabilities


class ByHead:
    """See ``Answerer``.

    Args:
        head: attached to the encoder's backbone. encoder: with the model and the configuration.
    """

    name = "head"

    def __init__(self, head: TrainedHead, encoder: Encoder) -> None:
        config = encoder.config
        self.head, self.encoder = head, encoder
        # the head scores the background itself; a data set without background (constant rule, threshold 0) fills all
        self.filled = config.background_rule == "constant" and config.background_threshold == 0
        least = 0.0 if self.filled else config.head_presence
        self.config = replace(config, background_rule="prompts", head_presence=least)
        self.reads = head_reads(config)
        self.spec = replace(
            head.card.features, short_side=config.short_side, long_side=config.long_side,
            max_patches=config.max_patches, position_interpolation=config.position_interpolation,
        )  # fmt: skip
        self.spread = config.step("affinity") is not None and config.head_affinity > 0

    def picture(self, image: Any, source: str | None = None) -> Picture:
        """See ``Answerer``."""
        return self.encoder.picture(image, source)

    def decide(self, pictures: Sequence[Picture], question: Question, known: Known) -> list[Decision]:
        """See ``Answerer``; ``known.present``: the classes that may occur."""
        backbone, config = self.encoder.backbone, self.config
        features, tokens = encode_tokens(
            backbone, self.encoder.pixels(pictures), self.spec,
            attention_blocks=config.attention_blocks if self.spread else 0,
            keep_layers=structure_layers(config, backbone.depth) if self.spread else (),
        )  # fmt: skip
        scores = self._looks(pictures, self.head.scores(features, question.vocabulary), question.vocabulary)
        if self.filled:
            scores[:, 0] = 0
        present = None if known.present is None else known.present.to(scores.device)
        marked = None if known.marks is None else marked_classes(known.marks, scores.shape[1] - 1)
        maps = winners(scores, present, config.head_presence, marked)
        if self.spread:
            marks = None if known.marks is None else grid_marks(known.marks, maps.classes, tokens.grid)
            maps = spread_winners(maps, Seen(tokens, maps.classes, backbone.depth), config, marks)
        return decide_maps(pictures, maps, config, known.marks)

    def _looks(self, pictures: Sequence[Picture], first: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Mean of the probabilities over all looks at pictures of one grid; ``first``: of the pictures as they are."""
        looks = []
        for look in wanted_looks(self.config):
            if look == AS_IT_IS:
                looks.append(first)
                continue
            features = encode_features(self.encoder.backbone, self.encoder.pixels(pictures, look), self.spec)
            scores = self.head.scores(features, vocabulary)
            looks.append(mirror(scores) if look[1] else scores)
        rows, columns = (max(scores.shape[axis] for scores in looks) for axis in (-2, -1))
        return torch.stack([resized(scores, (rows, columns)) for scores in looks]).mean(0)


def head_reads(config: Config) -> frozenset[str]:
    """Keys of settings that a head reads in this configuration."""
    reads = set(COMMON) | {"head_affinity", "head_presence", "background_rule", "background_threshold", "min_area"}
    reads |= {"max_pixels"}
    return frozenset(reads | {"decision"} | step_keys(config, "head"))


def marked_classes(marks: Sequence[Constraints], count: int) -> Tensor:
    """[B, C] bool on the CPU: the classes that have a box or a fixed pixel."""
    rows = torch.zeros(len(marks), count + 1, dtype=torch.bool)
    for row, mark in enumerate(marks):
        rows[row, mark.named()] = True
    return rows[:, 1:]


def winners(scores: Tensor, allowed: Tensor | None, least: float = 0.0, marked: Tensor | None = None) -> ClassMaps:
    """Probabilities [B, 1+C, h, w] -> the maps of the classes that are there: with tags those, else those that win
    somewhere and whose probability reaches ``least`` somewhere.

    Classes that are not there share their probability out among the others.

    Args:
        allowed: [B, C] bool, the tags; None: not known. marked: [B, C] bool, classes with a box or a fixed pixel, which
            get a map even where they win nowhere.
    """
    batch, count = scores.shape[0], scores.shape[1] - 1
    peaks = scores[:, 1:].flatten(2).amax(-1).reshape(batch, count)
    there = peaks >= least if allowed is None else allowed
    kept = torch.cat([there.new_ones(batch, 1), there], 1)
    scores = scores * kept[:, :, None, None]
    scores = scores / scores.sum(1, keepdim=True).clamp_min(1e-12)
    won = torch.zeros(batch, 1 + count, dtype=torch.bool, device=scores.device)
    won = won.scatter(1, scores.argmax(1).flatten(1), True)
    named = won[:, 1:] if marked is None else won[:, 1:] | marked.to(scores.device)
    classes = members(named, scores.device)
    index = (classes + 1)[:, :, None, None].expand(-1, -1, *scores.shape[2:])
    maps = scores.gather(1, index) * (classes >= 0)[:, :, None, None]
    return ClassMaps(classes, maps, peaks, scores[:, 0])


def spread_winners(maps: ClassMaps, seen: Seen, config: Config, marks: GridMarks | None) -> ClassMaps:
    """A head's maps spread along the attention of the same forward pass (WeCLIP's and CLIP-ES's affinity).

    ``spread^a * map^(1 - a)`` with a = ``config.head_affinity``, the background beside it as the head gave it.
    """
    if not maps.maps.shape[1]:
        return maps
    size = tuple(maps.maps.shape[-2:])
    small = adaptive_avg_pool2d(maps.maps, seen.tokens.grid)
    spread = spread_maps(small, seen, config, marks, answerer="head")
    both = enlarge(spread, size) ** config.head_affinity * maps.maps ** (1 - config.head_affinity)
    assert maps.background is not None
    total = (both.sum(1) + maps.background).clamp_min(1e-12)
    return replace(maps, maps=both / total[:, None], background=maps.background / total)
