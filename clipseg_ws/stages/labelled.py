"""A labeller beside CLIP (``--labeller``): the masks that it finds by name, and how they join the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from clipseg_ws.pictures.picture import Picture
from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.regions.sam_words import Labeller, concept_maps, fused
from clipseg_ws.stages.classmaps import ClassMaps, members
from clipseg_ws.structures import Vocabulary


@dataclass(frozen=True, eq=False)
class Labelled:
    """What a labeller found in B pictures: masks by class, and the weight that they have."""

    found: Sequence[Sequence[RegionSet]]
    weight: float

    def rows(self, rows: Sequence[int]) -> Labelled:
        """Of some of the pictures."""
        return Labelled([self.found[row] for row in rows], self.weight)

    def peaks(self) -> Tensor:
        """[B, C] in [0, 1], the best score of every class, 0 where nothing was found."""
        return torch.tensor([[self.weight * float(r.scores.max(initial=0)) for r in one] for one in self.found])

    def joined(self, scores: Tensor, classes: Tensor) -> Tensor:
        """Scores [B, 1+K, H, W] in [0, 1], background first, with the masks of ``classes`` [B, K] in them."""
        size = (scores.shape[2], scores.shape[3])
        rows = [
            fused(one, concept_maps(found, own, size), self.weight)
            for one, found, own in zip(scores, self.found, classes.tolist(), strict=True)
        ]
        return torch.stack(rows)


def ask_labeller(labeller: Labeller | None, pictures: Sequence[Picture], words: Vocabulary) -> Labelled | None:
    """What it finds by the classes' names; None without a labeller."""
    if labeller is None:
        return None
    return Labelled([labeller(picture.image, words.names) for picture in pictures], labeller.weight)


def with_found(maps: ClassMaps, labelled: Labelled, open_: bool) -> ClassMaps:
    """Class maps with empty ones for classes that only the labeller found, and image scores of at least its own.

    ``open_``: nobody said which classes are there; else (tags) none is added.
    """
    peaks = labelled.peaks().to(maps.scores)
    scores = torch.maximum(maps.scores, peaks * maps.present().to(peaks) if not open_ else peaks)
    if not open_:
        return replace(maps, scores=scores)
    classes = members((maps.present() | (peaks > 0)).cpu(), maps.classes.device)
    table = torch.full((len(classes), maps.scores.shape[1] + 1), -1, device=classes.device)  # class + 1 -> its map
    places = torch.arange(maps.classes.shape[1], device=classes.device).expand_as(maps.classes)
    table = table.scatter(1, maps.classes + 1, places)
    table[:, 0] = -1
    index = table.gather(1, classes + 1)
    height, width = maps.maps.shape[2:]
    if not maps.classes.shape[1]:
        return replace(maps, classes=classes, maps=maps.maps.new_zeros(*classes.shape, height, width), scores=scores)
    picked = maps.maps.gather(1, index.clamp_min(0)[:, :, None, None].expand(-1, -1, height, width))
    return replace(maps, classes=classes, maps=picked * (index >= 0)[:, :, None, None], scores=scores)
