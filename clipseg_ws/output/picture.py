"""The picture that belongs to a result."""

from __future__ import annotations

from typing import Any

from PIL import Image

from clipseg_ws.pictures.images import to_image
from clipseg_ws.pictures.reading import read_image
from clipseg_ws.pictures.sources import is_url
from clipseg_ws.structures import Result


def picture_of(result: Result, image: Any = None) -> Image.Image:
    """The picture of a result, RGB, of the size of its labels.

    Args:
        image: anything ``images.to_image`` takes; None: the picture kept in the result, else the file it came from.

    Raises:
        ValueError: no picture, or one of another size.
    """
    if image is None and (image := result.image) is None:
        if result.source is None or is_url(result.source):
            raise ValueError("this result keeps no picture; pass it: result.overlay(image=picture)")
        image = read_image(result.source)
    picture = to_image(image)
    height, width = result.labels.shape
    if picture.size != (width, height):
        raise ValueError(f"the picture is {picture.width} x {picture.height}, the labels are {width} x {height}")
    return picture
