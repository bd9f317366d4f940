"""The smaller picture that a source may cut in place of a large one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def working(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """[H, W, 3] shrunk so that the longer side has at most ``max_side`` pixels; itself where it is smaller, or with 0.

    Raises ValueError for a negative ``max_side``.
    """
    if max_side < 0:
        raise ValueError(f"max_side={max_side}; allowed: 0 (never shrink) or pixels of the longer side, e.g. 1024")
    height, width = image.shape[:2]
    if not max_side or max(height, width) <= max_side:
        return image
    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
