"""What the formats of a whole folder are made of: pictures' names with label maps, taken one by one.

Everywhere: ``labels`` [H, W] integer, 0 background, i + 1 = ``names[i]``, 255 ignored (below 255 classes, see
``palette.ignored_label``). A generator over a large folder needs no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # its parts are imported on first use

from clipseg_ws.output.palette import ignored_label

Labels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


class Item(NamedTuple):
    """One picture of a data set.

    Attributes:
        name: the picture's file name below the data set's folder, "trip/a.jpg".
        labels: [H, W] integer. instances: [H, W] integer, 0 for none; None where things are not told apart.
        stem: what files that belong to the picture are called, distinct in the data set; None: the name without suffix.
        location: where the picture lies; None where that is not known, or a URL.
    """

    name: str
    labels: Labels
    instances: Labels | None = None
    stem: str | None = None
    location: str | None = None


Items = Iterable[Item]


def check_labels(labels: Labels, names: Sequence[str]) -> None:
    """Raise ValueError unless ``labels`` are an integer [H, W] map of background, ``names`` and ignored pixels."""
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or not labels.size:
        raise ValueError(f"labels must be an integer array [H, W], got {labels.dtype} {list(labels.shape)}")
    unknown = set(np.unique(labels).tolist()) - {*range(len(names) + 1), ignored_label(len(names))}
    if unknown:
        raise ValueError(f"labels {sorted(unknown)[:5]} have no name; allowed: 0 to {len(names)}, and 255 for ignored")


def class_masks(labels: Labels, names: Sequence[str]) -> Iterator[tuple[int, Mask]]:
    """(label, bool mask [H, W]) of every class that occurs, in label order. Raises ValueError as ``check_labels``."""
    check_labels(labels, names)
    for value in np.unique(labels).tolist():
        if 0 < value <= len(names):
            yield value, labels == value


def parts_of(mask: Mask, instances: Labels | None = None, components: bool = False) -> Iterator[Mask]:
    """Bool masks [H, W] of what counts as one thing in the mask of a class.

    Args:
        instances: [H, W] integer, 0 for none: a part an instance (pixels without one make one more).
        components: without instances: a part a 4-connected region; else the whole mask is one part.
    """
    if instances is not None:
        yield from (mask & (instances == number) for number in np.unique(instances[mask]))
    elif components:
        numbers, count = scipy.ndimage.label(mask)
        yield from (numbers == number for number in range(1, count + 1))
    else:
        yield mask


def stems(items: Items) -> Iterator[tuple[str, Item]]:
    """(name of the picture's files without suffix, item).

    Raises:
        ValueError: a name that leads out of the folder, or two pictures of one name.
    """
    seen = set()
    for item in items:
        place = PurePosixPath(item.name)
        if not place.name or place.is_absolute() or ".." in place.parts:
            raise ValueError(f"{item.name!r} is no relative file name; allowed: e.g. 'photos/cat.jpg'")
        stem = item.stem or str(place.with_suffix(""))
        if stem in seen:
            raise ValueError(f"two pictures would share the file {stem!r}; rename one of them, here {item.name!r}")
        seen.add(stem)
        yield stem, item
