"""Regions on disk, one file a picture and source: what was cut once is not cut again, by whatever question."""

from __future__ import annotations

import hashlib
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipseg_ws.door import user_path
from clipseg_ws.door.state import checked_archive
from clipseg_ws.files import TEMPORARY, atomic_write
from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.together import sweep

VERSION = 1  # part of every key; raise it when a source cuts differently


def default_folder() -> Path:
    """``$CLIPSEG_WS_CACHE/regions`` where that variable is set, else ``regions`` in the user's cache folder."""
    import platformdirs

    root = os.environ.get("CLIPSEG_WS_CACHE") or platformdirs.user_cache_dir("clipseg_ws", appauthor=False)
    return user_path(root) / "regions"


def key(image: NDArray[np.uint8], source: str) -> str:
    """The digest of a picture's pixels [H, W, 3] and of how it is cut."""
    content = hashlib.sha256(f"{VERSION} {image.shape} {source}".encode())
    content.update(np.ascontiguousarray(image).data)
    return content.hexdigest()


def path_of(folder: Path, name: str) -> Path:
    """Two letters a sub-folder, so that none grows to millions of files."""
    return folder / name[:2] / f"{name}.npz"


def load(path: Path, size: tuple[int, int]) -> RegionSet | None:
    """The regions in a file; None where there is none, or it is damaged or of another size: they are cut again."""
    try:
        checked_archive(path)
        with np.load(path, allow_pickle=False) as held:
            parts = [held[name] for name in ("size", "starts", "lengths", "offsets", "scores")]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    shape, starts, lengths, offsets, scores = parts
    whole = tuple(shape.tolist()) == size and len(starts) == len(lengths) and len(scores) == len(offsets) - 1
    inside = not len(starts) or (starts.min() >= 0 and lengths.min() > 0 and (starts + lengths).max() <= np.prod(size))
    if not whole or not inside or offsets[0] != 0 or offsets[-1] != len(starts) or (np.diff(offsets) < 1).any():
        return None
    return RegionSet(size, starts.astype(np.int64), lengths.astype(np.int64), offsets.astype(np.int64), scores)


def save(path: Path, regions: RegionSet) -> None:
    """Through a temporary name; a folder that cannot be written is a warning."""
    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(
                file, size=np.array(regions.size), starts=regions.starts.astype(np.int32),
                lengths=regions.lengths.astype(np.int32), offsets=regions.offsets, scores=regions.scores,
            )  # fmt: skip
    except OSError as error:
        warnings.warn(f"regions are not cached in {path.parent}: {error}", RuntimeWarning, stacklevel=3)


def sweep_folder(folder: Path) -> None:
    """Delete what killed processes left."""
    sweep(folder, TEMPORARY)
