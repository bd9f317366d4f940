"""Which of ImageNet's names may be said of a thing of VOC: a dog may be a beagle, a person may wear a jersey."""

from __future__ import annotations

import torch
from torch import Tensor

from clipseg_ws.embedded.photo.concepts import VOC
from clipseg_ws.embedded.photo.wordnet import WordNet

# roots of WordNet 3.0 whose kinds may be said of a class: the thing itself, what it wears, what it is made of
ROOTS = {
    "aeroplane": ("02691156", "04592741"), "bicycle": ("02834778", "04576211"), "bird": ("01503061",),
    "boat": ("04530566",), "bottle": ("02876657", "04560804"), "bus": ("02924116", "04490091"),
    "car": ("04170037", "04576211"), "cat": ("02120997",), "chair": ("04161981",), "cow": ("02401031",),
    "diningtable": ("04379243",), "dog": ("02083346",), "horse": ("02374451", "02391049"),
    "motorbike": ("03790512", "04170037"), "person": ("00007846", "03122748", "03051540"),
    "pottedplant": ("00017222", "03991062", "04522168"), "sheep": ("02411705", "02411206"), "sofa": ("04161981",),
    "train": ("04468005", "04170037", "02959942"), "tvmonitor": ("03211117", "04404412", "03082979", "04152593"),
}  # fmt: skip


def imagenet_synsets() -> list[str]:
    """Offsets of ImageNet-1k's classes in their usual order, from timm's list."""
    from timm.data import ImageNetInfo

    return [name.removeprefix("n") for name in ImageNetInfo("imagenet-1k").label_names()]


def related_names(wordnet: WordNet, concepts: list[str]) -> Tensor:
    """bool [P, 1000]: ImageNet's class may be said of the concept. Concepts that are not VOC's by their name."""
    rows = torch.zeros(len(concepts), 1000, dtype=torch.bool)
    for column, synset in enumerate(imagenet_synsets()):
        above = wordnet.above(synset)
        words = {word.lower() for one in above for word in wordnet.names(one)}
        for row, concept in enumerate(concepts):
            roots = ROOTS.get(concept) if row < len(VOC) else None
            rows[row, column] = bool(above & set(roots)) if roots else concept.lower() in words
    return rows
