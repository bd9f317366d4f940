"""Any folder of pictures and masks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from clipseg_ws.door import user_path
from clipseg_ws.door.pictures import open_picture
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.files import DatasetError, need, read_truth
from clipseg_ws.eval.guard import Setting
from clipseg_ws.fewshot.mask_values import numbers_are_colours
from clipseg_ws.pictures.sources import Source, list_sources
from clipseg_ws.structures import IGNORE
from clipseg_ws.text.vocabulary import parse_classes
from clipseg_ws.weak.matching import Entries, MatchError, some
from clipseg_ws.weak.written import Name, Pictures

TREE = """  root/
    images/<id>.jpg  (or .jpeg, .png, .webp, .bmp, .tif, ...; sub-folders too)
    masks/<id>.png   palette or grey; 0 background, i+1 = class i, 255 ignored; the same sub-folders
    classes.yaml     classes: [cat, "person, people"]"""


def folder(name: str, root: str | Path, split: str | None, setting: Setting, prompts: str | None = None) -> Dataset:
    """``folder``: ``images/``, ``masks/`` and ``classes.yaml``; ``split`` is a name for the results only.

    Every picture has the mask of its name (``a.jpg`` and ``a.png`` need ``a.jpg.png`` and ``a.png.png``). Raises
    DatasetError for pictures without one, and where a class never occurs because its pixels seem to be 255.
    """
    base = need(user_path(root), name, TREE)
    images, masks = need(base / "images", name, TREE), need(base / "masks", name, TREE)
    vocabulary = parse_classes(prompts or str(need(base / "classes.yaml", name, TREE)))
    try:
        sources = list_sources(images)
    except ValueError as error:
        raise DatasetError(f"{name}: no picture in {str(images)!r} ({error}); expected:\n{TREE}") from error
    files = {str(source.relative): source for source in sources}
    truth = _masks(sources, masks, name)
    _check_labels([truth[id] for id in files], vocabulary.names, name)
    return Dataset(
        name, split or base.resolve().name, setting, vocabulary, tuple(files),
        image=lambda id: Path(files[id].location), truth=lambda id: read_truth(truth[id]),
        files=lambda id: (Path(files[id].location), truth[id]),
        prompts=prompts or "classes.yaml", root=base,
    )  # fmt: skip


def _masks(sources: Sequence[Source], masks: Path, name: str) -> dict[str, Path]:
    """Id -> mask, by the rule of ``weak/matching.py``. Raises DatasetError."""
    found = {p.relative_to(masks).as_posix(): p for p in sorted(masks.rglob("*")) if p.suffix.lower() == ".png"}
    names = {key: Name((key,), implied=True) for key in found if Path(key).name[0] != "."}
    try:
        matched = Entries(names, str(masks)).fit(Pictures.of(sources))
    except MatchError as error:
        raise DatasetError(f"{name}: {error}; expected:\n{TREE}") from error
    missing = [str(s) for s, key in zip(sources, matched.entry, strict=True) if key is None]
    if missing:
        raise DatasetError(f"{name}: {len(missing)} pictures have no mask, e.g. {some(missing)}; expected:\n{TREE}")
    return {str(s.relative): found[key] for s, key in zip(sources, matched.entry, strict=True) if key is not None}


def _check_labels(masks: Sequence[Path], names: Sequence[str], name: str) -> None:
    """Raise DatasetError where masks hold 0 and 255 only and some class never occurs: 255 is ignored, not an object."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(_labels_in, masks))
    absent = [n for i, n in enumerate(names) if not any(i + 1 in values for values in found)]
    strange = [path for path, values in zip(masks, found, strict=True) if IGNORE in values and values <= {0, IGNORE}]
    if absent and strange:
        raise DatasetError(
            f"{name}: {', '.join(absent[:5])} never occurs in the masks, while {len(strange)} of them hold 0 and 255 "
            f"only, e.g. {str(strange[0])!r}; 255 is ignored in every score: write the object as label 1 (mask // 255)"
        )


def _labels_in(path: Path) -> set[int]:
    """The labels of a mask; none of one that cannot be read, which is a failure of its picture later.

    Raises DatasetError for a palette picture whose numbers are no labels.
    """
    try:
        with open_picture(path) as image:
            coloured = numbers_are_colours(image)
    except (OSError, ValueError):
        return set()
    if coloured:
        raise DatasetError(
            f"{str(path)!r} was made from colours: in its palette black is not the number 0, so its numbers are no "
            "labels; write the labels themselves (0 background, i + 1 = class i)"
        )
    try:
        return set(np.unique(read_truth(path)).tolist())
    except (ValueError, OSError):
        return set()
