"""A trained head inside a Segmenter: one forward pass, no prompts; its classes are the vocabulary."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from clipseg_ws.activations.multiscale import mirror, resized
from clipseg_ws.backbones.openclip import OpenClipBackbone
from clipseg_ws.config import Config
from clipseg_ws.heads.base import Head
from clipseg_ws.heads.features import FeatureSpec, encode_features, encode_tokens, grid_of, pixel_batch
from clipseg_ws.heads.file import load_head
from clipseg_ws.heads.objective import enlarge
from clipseg_ws.pictures.batching import Batching
from clipseg_ws.stages.better_maps import structure_layers
from clipseg_ws.stages.decisions import Decision, decide_maps
from clipseg_ws.stages.looks import scaled, wanted_looks
from clipseg_ws.stages.maps import ClassMaps, spread_maps
from clipseg_ws.structures import Tokens, Vocabulary
from clipseg_ws.text.vocabulary import parse_classes
from clipseg_ws.weak.constraints import Constraints


class HeadStage:
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

    def attach(self, backbone: OpenClipBackbone) -> HeadStage:
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
        known = {name.lower(): name for name in self.card.classes}
        if classes is None:
            names, asked = self.card.classes, None
        else:
            asked = parse_classes(classes)
            names = asked.names
            if strangers := [name for name in names if name.lower() not in known]:
                raise ValueError(
                    f"{', '.join(map(repr, strangers))}: the head {self.path!r} was not trained on that; its classes "
                    f"are {', '.join(self.card.classes)}"
                )
        synonyms = tuple((name,) for name in names) if asked is None else asked.synonyms
        return Vocabulary(tuple(names), synonyms, templates=("{}",))

    def decide(
        self, backbone: OpenClipBackbone, pictures: Sequence[Image.Image], vocabulary: Vocabulary, config: Config,
        batching: Batching, tags: list[list[int]] | None = None, marks: Sequence[Constraints] | None = None,
    ) -> list[Decision]:  # fmt: skip
        """One answer a picture, in order.

        The head scores the background itself; where the configuration knows none (``background_rule="constant"`` and
        ``background_threshold=0``, data sets without background) every pixel gets a class.

        Args:
            vocabulary: of ``vocabulary``. batching: how many pictures go together.
            tags: indices of the classes that may occur; None: all of it.
            marks: boxes, points and scribbles of every picture, which the answer respects.
        """
        filled = config.background_rule == "constant" and config.background_threshold == 0
        config = replace(config, background_rule="prompts", head_presence=0.0 if filled else config.head_presence)
        spec = replace(
            self.card.features, short_side=config.short_side, long_side=config.long_side,
            max_patches=config.max_patches, position_interpolation=config.position_interpolation,
        )  # fmt: skip
        spread = config.affinity and config.head_affinity > 0

        def answer(batch: Sequence[int]) -> list[Decision]:
            pixels = pixel_batch(backbone, [pictures[i] for i in batch], spec)
            features, tokens = encode_tokens(
                backbone, pixels, spec, attention_blocks=config.attention_blocks if spread else 0,
                keep_layers=structure_layers(config, backbone.depth) if spread else (),
            )  # fmt: skip
            allowed = None if tags is None else [tags[i] for i in batch]
            scores = self.scores(features, vocabulary)
            scores = self._looks(backbone, [pictures[i] for i in batch], scores, spec, vocabulary, config)
            if filled:
                scores[:, 0] = 0
            maps = winners(scores, allowed, config.head_presence)
            mine = None if marks is None else [marks[i].to(backbone.device) for i in batch]
            if spread:
                maps = spread_winners(maps, tokens, config, mine, backbone.depth)
            each: Sequence[Constraints | None] = mine or [None] * len(batch)
            return [decide_maps(pictures[i], maps, row, config, each[row]) for row, i in enumerate(batch)]

        return batching.run_grouped([grid_of(backbone, picture.size, spec) for picture in pictures], answer)

    @torch.no_grad()
    def scores(self, features: Tensor, vocabulary: Vocabulary) -> Tensor:
        """Tokens [B, L, D, h, w] -> probabilities [B, 1+C, h', w'] of background and the vocabulary's classes."""
        index = {name.lower(): i + 1 for i, name in enumerate(self.card.classes)}
        chosen = [0, *(index[name.lower()] for name in vocabulary.names)]
        return self.module(features.float()).logits.float()[:, chosen].softmax(1)

    def _looks(
        self, backbone: OpenClipBackbone, pictures: Sequence[Image.Image], first: Tensor, spec: FeatureSpec,
        vocabulary: Vocabulary, config: Config,
    ) -> Tensor:  # fmt: skip
        """Mean of the probabilities over all looks at pictures of one grid; ``first``: of the pictures as they are."""
        looks, grid = [], grid_of(backbone, pictures[0].size, spec)
        for scale, mirrored in wanted_looks(config):
            if (scale, mirrored) == (1.0, False):
                looks.append(first)
                continue
            seen = [scaled(picture, grid, backbone.patch_size, scale, mirrored) for picture in pictures]
            own = spec if scale == 1.0 else replace(spec, short_side=None, long_side=None, max_patches=None)
            scores = self.scores(encode_features(backbone, pixel_batch(backbone, seen, own), own), vocabulary)
            looks.append(mirror(scores) if mirrored else scores)
        rows, columns = (max(scores.shape[axis] for scores in looks) for axis in (-2, -1))
        return torch.stack([resized(scores, (rows, columns)) for scores in looks]).mean(0)


def winners(scores: Tensor, allowed: Sequence[Sequence[int]] | None, least: float = 0.0) -> ClassMaps:
    """Probabilities [B, 1+C, h, w] -> the maps of the classes that are there: with tags those, else those that win
    somewhere and whose probability reaches ``least`` somewhere.

    Classes that are not there share their probability out among the others.
    """
    batch, count = scores.shape[0], scores.shape[1] - 1
    peaks = scores[:, 1:].flatten(2).amax(-1).reshape(batch, count)
    there = peaks >= least
    if allowed is not None:
        there = torch.zeros_like(there)
        for row, members in enumerate(allowed):
            there[row, list(members)] = True
    kept = torch.cat([there.new_ones(batch, 1), there], 1)
    scores = scores * kept[:, :, None, None]
    scores = scores / scores.sum(1, keepdim=True).clamp_min(1e-12)
    best = scores.argmax(1)
    classes = [[int(c) - 1 for c in row.unique() if c > 0] for row in best]
    maps = scores.new_zeros(batch, max((len(c) for c in classes), default=0), *scores.shape[2:])
    for row, members in enumerate(classes):
        maps[row, : len(members)] = scores[row, [c + 1 for c in members]]
    return ClassMaps(classes, maps, peaks, scores[:, 0])


def spread_winners(
    maps: ClassMaps, tokens: Tokens, config: Config, marks: Sequence[Constraints | None] | None, depth: int
) -> ClassMaps:
    """A head's maps spread along the attention of the same forward pass (WeCLIP's and CLIP-ES's affinity).

    ``spread^a * map^(1 - a)`` with a = ``config.head_affinity``, the background beside it as the head gave it.
    """
    if not maps.maps.shape[1]:
        return maps
    size = tuple(maps.maps.shape[-2:])
    spread = spread_maps(adaptive_avg_pool2d(maps.maps, tokens.grid), maps.classes, tokens, config, marks, depth)
    both = enlarge(spread, size) ** config.head_affinity * maps.maps ** (1 - config.head_affinity)
    assert maps.background is not None
    total = (both.sum(1) + maps.background).clamp_min(1e-12)
    return replace(maps, maps=both / total[:, None], background=maps.background / total)
