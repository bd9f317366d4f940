"""Things of other pictures, cut out along their masks and put into a view: new scenes from few labelled ones.

Simple copy-paste (Ghiasi et al., CVPR 2021, arXiv 2012.07177), here with pseudo masks: what is pasted keeps its label
and its confidence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from clipseg_ws.heads.augment import cut_map
from clipseg_ws.structures import IGNORE


@dataclass(frozen=True, eq=False)
class Cutout:
    """A thing of a donor picture and its place in another.

    Attributes:
        label: its class. box: (x0, y0, x1, y1) in the donor, ends exclusive. mirrored: turned left to right.
        place: (x, y) of its left upper corner. mask: bool [h, w], its pixels, scaled and mirrored.
        confidence: uint8 [h, w], likewise.
    """

    label: int
    box: tuple[int, int, int, int]
    mirrored: bool
    place: tuple[int, int]
    mask: np.ndarray
    confidence: np.ndarray

    def into_masks(self, labels: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Labels and confidence uint8 [H, W] with the thing in them, as copies."""
        (x, y), (h, w) = self.place, self.mask.shape
        labels, confidence = labels.copy(), confidence.copy()
        labels[y : y + h, x : x + w][self.mask] = self.label
        confidence[y : y + h, x : x + w][self.mask] = self.confidence[self.mask]
        return labels, confidence

    def into_picture(self, picture: Image.Image, donor: Image.Image) -> Image.Image:
        """The RGB picture with the thing of ``donor`` in it, as a copy."""
        h, w = self.mask.shape
        thing = donor.resize((w, h), Image.Resampling.BICUBIC, box=self.box)
        thing = ImageOps.mirror(thing) if self.mirrored else thing
        picture = picture.copy()
        picture.paste(thing, self.place, Image.fromarray(self.mask))
        return picture


def cut_out(
    labels: np.ndarray, confidence: np.ndarray, size: tuple[int, int], rng: np.random.Generator, *,
    scale: tuple[float, float] = (0.6, 1.3),
) -> Cutout | None:  # fmt: skip
    """A class of a donor at a size and a place that ``rng`` decides.

    Args:
        labels, confidence: the donor's, uint8 [H', W']. size: (width, height) of the picture that takes it.
        scale: the thing is scaled by a factor between these, evenly on a logarithmic scale.

    Returns:
        None where the donor shows no class, or the thing would not fit into the picture.
    """
    mirrored, factor = bool(rng.random() < 0.5), float(np.exp(rng.uniform(*np.log(scale))))
    pick, at = rng.random(), rng.random(2)
    present = [int(label) for label in np.unique(labels) if label not in (0, IGNORE)]
    if not present:
        return None
    label = present[int(pick * len(present))]
    rows, columns = np.nonzero(labels == label)
    x0, y0, x1, y1 = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
    w, h = max(1, round((x1 - x0) * factor)), max(1, round((y1 - y0) * factor))
    if w > size[0] or h > size[1]:
        return None
    box, place = (x0, y0, x1, y1), (int(at[0] * (size[0] - w + 1)), int(at[1] * (size[1] - h + 1)))
    mask, sure = (cut_map(m, box, (h, w), mirrored) for m in (labels == label, confidence))
    return Cutout(label, box, mirrored, place, mask, sure)
