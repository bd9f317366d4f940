"""Five free photos for trying things, with outlines of one thing each; who took them and their licences: ``NOTICE``.

None was used in training the embedded models. Importing this package imports nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Photo:
    """A photo that ships with the package.

    Attributes:
        name: its file is ``name.jpg``. title: what one sees, in a few words.
        shows: names of things in it, the outlined one first.
        outlined: whether ``name_mask.png`` holds an outline of ``shows[0]``, drawn by hand.

    Example:
        >>> from clipseg_ws.embedded.photos import PHOTOS
        >>> PHOTOS["chelsea"].open().size, PHOTOS["chelsea"].mask().mean().round(2)
        ((451, 300), 0.72)
    """

    name: str
    title: str
    shows: tuple[str, ...]
    outlined: bool = True

    @property
    def path(self) -> Path:
        """The JPEG."""
        return FOLDER / f"{self.name}.jpg"

    @property
    def mask_path(self) -> Path:
        """The outline, a PNG of one bit. Raises ValueError where there is none."""
        if not self.outlined:
            drawn = ", ".join(photo.name for photo in PHOTOS.values() if photo.outlined)
            raise ValueError(f"nobody outlined a thing in the photo {self.name!r}; outlined are {drawn}")
        return FOLDER / f"{self.name}_mask.png"

    def open(self) -> Image.Image:
        """The picture, RGB."""
        from clipseg_ws.pictures.reading import read_image

        return read_image(self.path)

    def mask(self) -> np.ndarray:
        """[H, W] bool: ``shows[0]``. Raises as ``mask_path``."""
        import numpy as np
        from PIL import Image

        with Image.open(self.mask_path) as picture:
            return np.asarray(picture.convert("L")) > 0


PHOTOS = {
    photo.name: photo
    for photo in (
        Photo("chelsea", "a cat", ("cat",)),
        Photo("astronaut", "an astronaut", ("person", "space shuttle")),
        Photo("camera", "a man with a camera", ("person", "tripod")),
        Photo("coffee", "a cup of coffee", ("cup", "plate")),
        Photo("rocket", "a rocket before its launch", ("rocket",), outlined=False),
    )
}
