"""What tags and marks say of pictures, from names to indices and pixels."""

from __future__ import annotations

from collections.abc import Sequence

from clipseg_ws.pictures.picture import Picture
from clipseg_ws.stages.question import Known
from clipseg_ws.structures import Vocabulary, WeakLabels
from clipseg_ws.weak.constraints import constraints
from clipseg_ws.weak.given import present_mask, tag_indices


def known_of(
    vocabulary: Vocabulary, pictures: Sequence[Picture], tags: Sequence[Sequence[str]] | None,
    marks: Sequence[WeakLabels] | None,
) -> Known:  # fmt: skip
    """Tags or marks by name, one entry a picture -> what they say of each.

    Raises ValueError for a name that is no class, and for marks that contradict one another.
    """
    count = len(vocabulary.names)
    if marks is None:
        indices = tag_indices(None if tags is None else [list(names) for names in tags], vocabulary)
        return Known(None if indices is None else present_mask(indices, count))
    said = tuple(constraints(labels, vocabulary, picture.size) for labels, picture in zip(marks, pictures, strict=True))
    everything = range(count)
    return Known(present_mask([list(everything if m.present is None else m.present) for m in said], count), said)
