"""Pictures and masks on disk -> what a head learns from; what cannot be read is left out and listed."""

from __future__ import annotations

import hashlib
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags
from tqdm import tqdm

from clipseg_ws.door.pictures import open_picture
from clipseg_ws.files import ErrorsCsv
from clipseg_ws.heads.augment import AugmentedData
from clipseg_ws.heads.data import HeadData, Targets, check_counts, count_pixels
from clipseg_ws.heads.features import FeatureSpec, grid_of
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.heads.store import StoredData, TokenStore
from clipseg_ws.heads.workers import Alone
from clipseg_ws.pictures.loading import load_ahead
from clipseg_ws.pictures.reading import read_image
from clipseg_ws.pictures.sources import Source, is_url
from clipseg_ws.run.training.masks import MaskFolder, shrink_targets
from clipseg_ws.run.training.options import Recipe
from clipseg_ws.run.training.views import Donors, Views, check_size, token_key
from clipseg_ws.segmenter import Segmenter

TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height


class LeftOut:
    """Pictures that cannot be used: listed in ``errors.csv`` (image, error, message) by the first process."""

    def __init__(self, folder: Path, workers: Alone) -> None:
        self.path, self.main, self.count, self.first = folder / "errors.csv", workers.main, 0, ""
        if self.main:
            self.path.unlink(missing_ok=True)

    def __call__(self, what: object, error: Exception) -> None:
        """One more."""
        self.count += 1
        self.first = self.first or str(error)
        if self.main:
            ErrorsCsv(self.path).add(what, error)


@dataclass(frozen=True, eq=False)
class Lessons:
    """What a head learns from.

    Attributes:
        data: views and masks. validation: held-back pictures; None: none are. sources: pictures of ``data``, those of
            its first view. unlabelled: of the pictures without masks, its targets are not to be read. digest: 16
            digits that change with the pictures and with their masks.
    """

    data: HeadData
    validation: HeadData | None
    sources: Sequence[Source]
    unlabelled: HeadData | None
    digest: str = ""


@dataclass(frozen=True, eq=False)
class Checked:
    """A picture's size (width, height), how many pixels of each label count, int64 [256], and its masks' checksum."""

    size: tuple[int, int]
    pixels: np.ndarray
    checksum: int = 0


def open_lessons(
    segmenter: Segmenter, spec: FeatureSpec, sources: Sequence[Source], folder: MaskFolder, recipe: Recipe, *,
    training: TrainConfig, tokens: Path, unlabelled: Sequence[Source], workers: Alone, left_out: LeftOut,
) -> Lessons:  # fmt: skip
    """Split the pictures, make the tokens that are missing, and read the masks.

    Args:
        spec: of the tokens. sources: pictures with a mask in ``folder``. training: its seed splits, its ``least`` is
            the confidence from which a pixel counts. tokens: their folder.

    Raises:
        ValueError: no picture can be used; what ``check_counts`` says of the masks, before any token is made.
    """
    least, quiet = training.least, not workers.main
    found = usable_pictures(sources, folder, left_out, least=least, whole=recipe.augment, quiet=quiet)
    _check_some(found, sources, left_out)
    usable, sizes = [source for source, _ in found], [checked.size for _, checked in found]
    learn, held = split(len(found), recipe.validation, training.seed)
    check_counts(np.sum([found[i][1].pixels for i in learn], axis=0), len(folder.names) + 1, folder.names, least)
    # what is held back is not seen in other pictures
    donors = Donors([usable[i] for i in learn], folder, recipe.paste, quiet=quiet)
    views, plain = Views(usable, folder, recipe.views, donors), Views(usable, folder, 1)
    wanted = {views.keys[n]: sizes[n % len(found)] for n in (held if recipe.augment else range(len(views.keys)))}
    store = _fill_store(segmenter, spec, views, wanted, unlabelled, tokens, workers, left_out)
    held = [i for i in held if views.keys[i] in store]
    learn = [i for i in learn if recipe.augment or views.keys[i] in store]
    _check_some(learn, sources, left_out)
    digest = _digest([*found, *((source, None) for source in unlabelled)])
    data: HeadData
    if recipe.augment:
        load = lambda i: plain.load(learn[i])  # noqa: E731
        shown = [sizes[i] for i in learn]
        made = (digest, recipe.paste)
        data = AugmentedData(
            segmenter.backbone, spec, load, shown, detail=recipe.detail, change=donors.paste, about=made
        )  # fmt: skip
    else:
        data = _stored(store, views, [i + v * len(found) for v in range(recipe.views) for i in learn], recipe, workers)
    validation = _stored(store, plain, held, recipe, workers) if held else None
    return Lessons(data, validation, [usable[i] for i in learn], _unlabelled(store, unlabelled), digest)


def _digest(pictures: Sequence[tuple[Source, Checked | None]]) -> str:
    """Of pictures, as far as size and time of their files tell, and of the masks' content."""
    rows = sorted((token_key(source), 0 if checked is None else checked.checksum) for source, checked in pictures)
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def _check_some(left: Sequence[object], sources: Sequence[Source], left_out: LeftOut) -> None:
    if not left:
        raise ValueError(f"none of the {len(sources)} pictures can be used: {left_out.first}")


def _unlabelled(store: TokenStore, sources: Sequence[Source]) -> StoredData | None:
    """The pictures without masks whose tokens could be made."""
    free = [key for key in map(token_key, sources) if key in store]
    blank = [np.full((1, 1), 255, np.uint8)] * len(free)  # never read
    return StoredData(store, free, Targets(blank, blank)) if free else None


def usable_pictures(
    sources: Sequence[Source], folder: MaskFolder, left_out: Any, *, least: float, whole: bool = False,
    quiet: bool = False,
) -> list[tuple[Source, Checked]]:  # fmt: skip
    """The pictures whose mask can be read and has the picture's size.

    Args:
        left_out: gets the others with the reason. least: confidence from which a pixel counts. whole: pictures are
            decoded, not only their headers read.
    """

    def look(source: Source) -> Checked:
        labels, confidence = folder.read(source)
        size = read_image(source).size if whole else size_in_header(source)
        if size is not None:
            check_size(source, size, labels)
        checksum = zlib.crc32(confidence.tobytes(), zlib.crc32(labels.tobytes()))
        return Checked((labels.shape[1], labels.shape[0]), count_pixels(labels, confidence, least), checksum)

    shown = tqdm(sources, desc="checking", unit="img", delay=2, disable=True if quiet else None)
    return list(load_ahead(shown, look, left_out))


def size_in_header(source: Source) -> tuple[int, int] | None:
    """(width, height) after EXIF rotation without decoding; None for what would have to be downloaded.

    Raises ImageError for what is no picture.
    """
    if is_url(source.location):
        return None
    try:
        with open_picture(source.location) as image:
            width, height = image.size
            turned = image.getexif().get(ExifTags.Base.Orientation) in TURNED
    except Exception:
        return read_image(source).size  # says what is wrong
    return (height, width) if turned else (width, height)


def split(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Numbers to learn from and numbers held back; at least one stays to learn from."""
    order = np.random.default_rng((seed, 7)).permutation(count).tolist()
    held = min(round(count * share), count - 1)
    return sorted(order[held:]), sorted(order[:held])


def _fill_store(
    segmenter: Segmenter, spec: FeatureSpec, views: Views, wanted: Mapping[str, tuple[int, int]],
    unlabelled: Sequence[Source], folder: Path, workers: Alone, left_out: LeftOut,
) -> TokenStore:  # fmt: skip
    """The store with the wanted views (key -> width, height) and the unlabelled pictures, as far as they can be read;
    the first process fills it, the others wait."""
    if workers.main:
        others = {token_key(source): source for source in unlabelled}
        load = lambda key: read_image(others[key]) if key in others else views.picture(key)  # noqa: E731
        store = TokenStore(folder, segmenter.backbone, spec)
        missing = [grid_of(segmenter.backbone, size, spec) for key, size in wanted.items() if key not in store]
        check_room(folder, 2 * store.blocks * store.width * sum(h * w for h, w in missing))
        store.build([*wanted, *others], load, left_out, batch_size=segmenter.config.batch_size)
    workers.wait()
    return TokenStore(folder, segmenter.backbone, spec)


def check_room(folder: Path, needed: int) -> None:
    """Raise ValueError where less than ``needed`` bytes are free on the disk of ``folder``."""
    if needed > (free := shutil.disk_usage(folder).free):
        raise ValueError(
            f"the tokens need {needed / 1e9:.1f} GB more, {str(folder)!r} has {free / 1e9:.1f} GB free; another disk "
            "(--tokens FOLDER), fewer --views, one block (--blocks -1) or --augment (no tokens on disk) would help"
        )


def _stored(store: TokenStore, views: Views, numbers: Sequence[int], recipe: Recipe, workers: Alone) -> StoredData:
    """Tokens on disk with the masks of the same views; views that could not be made are not there."""
    numbers = [n for n in numbers if views.keys[n] in store]
    keys = [views.keys[n] for n in numbers]
    shown = tqdm(numbers, desc="masks", unit="mask", delay=2, disable=None if workers.main else True)
    masks = (views.masks(n) for n in shown)
    return StoredData(store, keys, shrink_targets(masks, [store.entries[key].grid for key in keys], recipe.detail))
