"""The pictures of a head's training as views: each as it is, and augmented, with things of the others pasted in."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from clipseg_ws.heads.augment import Augmentation, Sample
from clipseg_ws.heads.paste import Cutout, cut_out
from clipseg_ws.pictures.reading import read_image
from clipseg_ws.pictures.sources import Source, is_url
from clipseg_ws.run.training.masks import MaskFolder


def token_key(source: Source) -> str:
    """A picture's name in the token store, the same from every working folder; another one where its file changed."""
    if is_url(source.location):
        return source.location
    place = os.path.abspath(source.location)
    try:
        state = os.stat(place)
    except OSError:  # reading it will say so
        return place
    return f"{place}#{state.st_size}-{state.st_mtime_ns}"


class Donors:
    """Pictures whose things are pasted into others.

    Args:
        sources: pictures, all with a mask in ``folder``. most: things a view gets, from 1 on; 0: none.
        quiet: no progress bar.
    """

    def __init__(self, sources: Sequence[Source], folder: MaskFolder, most: int, quiet: bool = False) -> None:
        self.sources, self.folder, self.most, self.quiet = list(sources), folder, most, quiet

    def cutouts(self, size: tuple[int, int], rng: np.random.Generator) -> Iterator[tuple[Source, Cutout]]:
        """Donors and what is cut out of them for a picture of ``size`` (width, height); ``rng`` decides all."""
        for _ in range(int(rng.integers(1, self.most + 1)) if self.most else 0):
            donor = self.sources[int(rng.integers(len(self.sources)))]
            if (cutout := cut_out(*self.folder.read(donor), size, rng)) is not None:
                yield donor, cutout

    def paste(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Picture, labels and confidence uint8 [H, W] with things of others in them."""
        picture, labels, confidence = sample
        for donor, cutout in self.cutouts(picture.size, rng):
            picture = cutout.into_picture(picture, read_image(donor))
            labels, confidence = cutout.into_masks(labels, confidence)
        return picture, labels, confidence

    def digest(self) -> int:
        """A number that changes with all that pasted views depend on, the masks included."""
        value = self.most
        shown = tqdm(self.sources, desc="donors", unit="img", delay=2, disable=True if self.quiet else None)
        for source in shown if self.most else ():
            value = zlib.crc32(str(source.relative).encode(), value)
            for mask in self.folder.read(source):
                value = zlib.crc32(mask.tobytes(), value)
        return value


class Views:
    """Every picture as it is, and ``count - 1`` augmented views of it, the same ones every time.

    View v of picture i has the number ``i + v * len(sources)``. ``donors``: of what is pasted; None: nothing is.
    """

    def __init__(self, sources: Sequence[Source], folder: MaskFolder, count: int, donors: Donors | None = None) -> None:
        self.sources, self.folder = list(sources), folder
        self.donors = donors or Donors((), folder, 0)
        names = [token_key(source) for source in sources]
        made = zlib.crc32(repr(Augmentation()).encode(), self.donors.digest()) if count > 1 else 0
        self.keys = [name if v == 0 else f"{name}#view{v}-{made:08x}" for v in range(count) for name in names]
        self._numbers = {key: number for number, key in enumerate(self.keys)}

    def load(self, number: int) -> Sample:
        """Picture, labels and confidence uint8 [H, W] of a view. Raises ValueError for a mask of another size."""
        source, seed = self._view(number)
        sample = (read_image(source), *self.folder.read(source))
        check_size(source, sample[0].size, sample[1])
        if seed is None:
            return sample
        return self.donors.paste(Augmentation()(*sample, np.random.default_rng(seed)), _second(seed))

    def masks(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels and confidence of a view, without decoding a picture."""
        source, seed = self._view(number)
        masks = self.folder.read(source)
        if seed is None:
            return masks
        masks = Augmentation().masks(*masks, np.random.default_rng(seed))
        for _, cutout in self.donors.cutouts(masks[0].shape[::-1], _second(seed)):
            masks = cutout.into_masks(*masks)
        return masks

    def picture(self, key: str) -> Image.Image:
        """The picture of a key."""
        return self.load(self._numbers[key])[0]

    def _view(self, number: int) -> tuple[Source, tuple[int, int] | None]:
        """A view's picture and the seed of its changes; None: the picture as it is."""
        view, i = divmod(number, len(self.sources))
        return self.sources[i], (view, zlib.crc32(str(self.sources[i].relative).encode())) if view else None


def check_size(source: Source, size: tuple[int, int], labels: np.ndarray) -> None:
    """Raise ValueError unless a mask [H, W] has its picture's ``size`` (width, height)."""
    height, width = labels.shape
    if size != (width, height):
        raise ValueError(
            f"{str(source)!r} is {size[0]} x {size[1]} pixels, its mask {width} x {height}; equal sizes are needed"
        )


def _second(seed: tuple[int, int]) -> np.random.Generator:
    """A generator for what is pasted, so that nothing hangs on how much the first one was asked."""
    return np.random.default_rng((*seed, 1))
