"""Regions that lie in a folder: label PNGs, COCO RLE, the JSON that SAM's own generator writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from clipseg_ws.door import InputError, user_path
from clipseg_ws.door.documents import read_json
from clipseg_ws.door.pictures import open_picture
from clipseg_ws.door.runs import decode_runs
from clipseg_ws.regions.region_set import RegionSet

WHOLE = ("annotations.json", "instances.json")  # COCO of the whole folder
_KEYS = ("annotations", "segments", "masks")


def read_regions(image: NDArray[np.uint8], name: str = "", *, folder: str = "", rest: int = -1) -> RegionSet:
    """The regions of a picture by its name: of ``photos/a/b.jpg`` from ``a/b.png``, ``a/b.json``, ``b.png`` or
    ``b.json`` in the folder, or from one COCO file ``annotations.json`` there.

    Args:
        image: [H, W, 3] uint8, whose size must fit. name: file or URL of the picture. folder: where regions lie.
        rest: value of a label PNG that is no region; -1: every value is one. A colour PNG has a region a colour.

    Raises:
        InputError: a picture without a name, no file for it, a file that is damaged, or of another picture size.

    Example:
        >>> # clipseg-ws predict photos/ -c "cat; dog" --regions files:masks
    """
    if not folder:
        raise InputError("regions from files need a folder, for example files:masks")
    root = user_path(folder)
    if not root.is_dir():
        raise InputError("no such folder of regions", file=root, advice="write for example files:masks")
    if not name:
        raise InputError("regions from files are found by the picture's name, and this picture has none")
    size = (image.shape[0], image.shape[1])
    for path in _places(root, name):
        if path.is_file():
            found = _labels(path, rest) if path.suffix == ".png" else _json(path, read_json(path), size)
            return found.checked(size, path)
    for path in (root / name for name in WHOLE):
        if path.is_file():
            return _of_whole(path, PurePosixPath(urlsplit(name).path or name).name, size)
    tried = ", ".join(str(p.relative_to(root)) for p in _places(root, name))
    raise InputError(f"no regions of {name!r}; looked for {tried}, {', '.join(WHOLE)}", file=root)


def _places(root: Path, name: str) -> list[Path]:
    """Longest names first, so that equal names in several folders stay apart."""
    parts = [p for p in PurePosixPath(name.replace("\\", "/")).with_suffix("").parts if p not in ("/", "..", ".")]
    stems = ["/".join(parts[-n:]) for n in range(min(3, len(parts)), 0, -1)]
    return [root / f"{stem}{suffix}" for stem in stems for suffix in (".png", ".json")]


def _labels(path: Path, rest: int) -> RegionSet:
    with open_picture(path) as image:
        values = np.asarray(image)
    if values.ndim == 3:
        weights = 256 ** np.arange(min(values.shape[2], 3))
        values = (values[:, :, :3].astype(np.int64) * weights).sum(2)
    return RegionSet.from_labels(values.astype(np.int64), rest)


def _json(path: Path, content: Any, size: tuple[int, int]) -> RegionSet:
    """SAM's JSON {"annotations": [...]}, a list of annotations, or of RLEs."""
    entries = content
    if isinstance(content, Mapping):
        entries = next((content[key] for key in _KEYS if key in content), None)
        images = content.get("images")
        if isinstance(images, list) and len(images) > 1:
            raise InputError(f"COCO of {len(images)} pictures", file=path, advice=f"call it {WHOLE[0]}")
    if not isinstance(entries, list):
        raise InputError(
            f"no list of regions under {', '.join(_KEYS)}", file=path,
            advice='e.g. {"annotations": [{"segmentation": {"size": [4, 6], "counts": [3, 21]}}]}',
        )  # fmt: skip
    scores = [_score(entry) for entry in entries]
    return RegionSet.from_masks(_masks(path, entries, size), size, scores)


def _masks(path: Path, entries: Sequence[Any], size: tuple[int, int]) -> Iterator[NDArray[np.bool_]]:
    for number, entry in enumerate(entries, 1):
        try:
            code = entry.get("segmentation", entry) if isinstance(entry, Mapping) else entry
            yield decode_runs(code, size) > 0
        except InputError as error:
            raise InputError(str(error), file=path, place=f"region {number}") from error


def _score(entry: Any) -> float:
    value = entry.get("predicted_iou", entry.get("score", 1.0)) if isinstance(entry, Mapping) else 1.0
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 1.0


def _of_whole(path: Path, file: str, size: tuple[int, int]) -> RegionSet:
    """One picture of a COCO file."""
    content = read_json(path)
    images = content.get("images") if isinstance(content, Mapping) else None
    if not isinstance(images, list) or not isinstance(content.get("annotations"), list):
        raise InputError("no COCO file: it has no lists 'images' and 'annotations'", file=path)
    known = [i for i in images if isinstance(i, Mapping)]
    mine = [i.get("id") for i in known if PurePosixPath(str(i.get("file_name"))).name == file]
    if len(mine) != 1:
        raise InputError(f"{len(mine)} pictures are called {file!r}; one is needed", file=path)
    own = [e for e in content["annotations"] if isinstance(e, Mapping) and e.get("image_id") == mine[0]]
    return _json(path, own, size)
