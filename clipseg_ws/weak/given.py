"""What a caller may hand to the Segmenter, checked and brought into one form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipseg_ws.structures import Vocabulary, WeakLabels
from clipseg_ws.text.matching import find_class


def per_image_tags(tags: Sequence[Any] | None, count: int, single: bool) -> list[list[str]] | None:
    """Tags as one list of names per picture; a flat list belongs to a single picture."""
    if tags is None:
        return None
    if isinstance(tags, str):
        raise ValueError(f"tags={tags!r} is one string; a list of names is needed, for example tags=['cat', 'sofa']")
    per_image = [list(tags)] if single and all(isinstance(t, str) for t in tags) else [list(t) for t in tags]
    if any(isinstance(t, str) for t in tags) and not single:
        raise ValueError(f"tags={list(tags)!r}: {count} pictures need a list of lists, for example [['cat'], ['dog']]")
    if len(per_image) != count:
        raise ValueError(f"{len(per_image)} tag lists for {count} pictures; one list per picture is needed")
    return per_image


def weak_list(weak: Any, count: int, tags: Any) -> list[WeakLabels]:
    """One ``WeakLabels`` per picture."""
    if tags is not None:
        raise ValueError("tags= and weak= were both given; put the tags into WeakLabels(tags=('cat',), ...)")
    labels = [weak] if isinstance(weak, WeakLabels) else list(weak)
    if len(labels) != count or not all(isinstance(item, WeakLabels) for item in labels):
        kinds = ", ".join(sorted({type(item).__name__ for item in labels}))
        raise ValueError(f"{len(labels)} weak labels ({kinds}) for {count} pictures; one WeakLabels each is needed")
    return labels


def tag_indices(tags: list[list[str]] | None, vocabulary: Vocabulary) -> list[list[int]] | None:
    """Names (or synonyms) of tags -> vocabulary indices, each once. Raises ValueError for an unknown tag."""
    if tags is None:
        return None
    index = vocabulary.index()
    place: dict[str, int] = {}
    for tag in {t for image in tags for t in image}:
        found = find_class(index, tag)
        if found is None:
            raise ValueError(f"tag {tag!r} is no class; known: {', '.join(vocabulary.names)}")
        place[tag] = found
    return [sorted({place[tag] for tag in image}) for image in tags]


def present_mask(indices: list[list[int]], count: int) -> Tensor:
    """[B, C] bool."""
    mask = np.zeros((len(indices), count), bool)
    for row, members in enumerate(indices):
        mask[row, members] = True
    return torch.from_numpy(mask)
