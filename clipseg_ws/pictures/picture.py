"""A picture on its way through: made once by the loader, never changed, nothing hidden on it."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    import torch

Grids = tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture, and what the models that see it get.

    Attributes:
        image: RGB, in the frame of the result. source: where it came from, None for arrays.
        grid: patches (h, w) for every model that sees it (words: the network size instead); pictures of one grid share
            a batch. pixels: [3, H', W'] float32, CLIP's input.
        made_for: the settings that decide grid, pixels and regions; a Segmenter with others makes them anew.
        regions: ``regions.region_set.RegionSet`` of the image, None where nothing reads them.
    """

    image: Image.Image
    source: str | None
    grid: Grids
    pixels: torch.Tensor
    made_for: Hashable = ()
    regions: Any = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image."""
        return self.image.height, self.image.width
