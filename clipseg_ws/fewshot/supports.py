"""Examples: pictures with the mask of a thing, from files, arrays, label PNGs, COCO RLE or a folder -> ``Support``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from clipseg_ws.fewshot.masks import SupportError, read_mask
from clipseg_ws.pictures.images import to_image
from clipseg_ws.pictures.reading import ImageError
from clipseg_ws.pictures.sources import IMAGE_SUFFIXES
from clipseg_ws.structures import Support

__all__ = ["UNNAMED", "SupportError", "read_mask", "read_support", "read_support_dir", "read_supports"]

UNNAMED = "object"  # the name of what has no label


class NothingFound(SupportError):
    """No support of a class without masks shows it."""


def read_support(support: Support | Sequence[Any]) -> Support:
    """One example with everything read.

    Args:
        support: a ``Support`` or a tuple (image, mask[, label]). Image: as for ``images.to_image`` (files are turned
            upright by their EXIF). Mask: see ``read_mask``; None stays None (an example with a name only).

    Returns:
        ``Support(RGB PIL image, uint8 [H, W] or None, label or None)``; mask 1 object, 0 background, 255 ignored.

    Raises:
        SupportError: the picture or mask cannot be read, the mask has another size, or no pixel of it is object.
    """
    given = support if isinstance(support, Support) else _from_tuple(support)
    name = _describe(given.image)
    try:
        image = to_image(given.image)
    except ImageError as error:
        raise SupportError(f"support {name}: {error}") from error
    label = None if given.label is None else str(given.label).strip()
    if label == "":
        raise SupportError(f"support {name}: its label is empty; give a name, for example 'cat', or leave it out")
    if given.mask is None:
        return Support(image, None, label)
    return Support(image, read_mask(given.mask, image.size, f"support {name}"), label)


def read_supports(supports: Iterable[Support | Sequence[Any]] | Support) -> list[Support]:
    """``read_support`` for several, at least one. Raises SupportError."""
    given = [supports] if isinstance(supports, Support) else list(supports)
    if not given:
        raise SupportError("no supports were given; at least one is needed, e.g. Support('a.jpg', 'a.png', 'cat')")
    return [read_support(support) for support in given]


def read_support_dir(path: str | Path, *, masks: bool = True) -> list[Support]:
    """Examples of a folder: ``label/picture.jpg`` with ``label/picture.png`` as its mask; pairs right in the folder
    have no label. A picture that is itself a PNG has its mask in ``picture_mask.png``; ``picture_mask.*`` and
    ``picture_rle.json`` (as the format "rle" writes it) are masks too. Folders inside ``label`` belong to it.

    ``masks=False``: every picture ``label/picture.*`` is an example without a mask (weak-few).

    Raises:
        FileNotFoundError: no such folder. SupportError: no pairs, or a picture without a mask.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {str(root)!r}; expected is label/picture.jpg + label/picture.png in it")
    found: list[Support] = []
    for top in [root, *_folders(root)]:
        label = None if top == root else top.name
        for folder in [top] if label is None else [top, *_folders(top, deep=True)]:
            if masks:
                found += [Support(image, mask, label) for image, mask in _pairs(folder)]
            elif label is not None:
                found += [Support(image, None, label) for image in _pictures(folder)]
    if not found:
        raise SupportError(f"{str(root)!r} holds no examples; expected is label/picture.jpg + label/picture.png in it")
    return found


def _folders(folder: Path, deep: bool = False) -> list[Path]:
    """Folders inside, without hidden ones; ``deep``: theirs too."""
    inside = sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    return inside if not deep else [found for f in inside for found in (f, *_folders(f, deep=True))]


def _pictures(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Every picture of a folder with its mask; raises SupportError for one without."""
    files = _pictures(folder)
    codes = [f for f in sorted(folder.iterdir()) if f.name.lower().endswith("_rle.json")]
    plain = {f.stem for f in files if f.suffix.lower() != ".png"}
    masks = {f for f in files if f.suffix.lower() == ".png" and f.stem in plain}
    masks |= {f for f in files if f.stem.endswith("_mask")}
    pairs = []
    for file in files:
        if file in masks:
            continue
        stems = [f"{file.stem}_mask"] if file.suffix.lower() == ".png" else [file.stem, f"{file.stem}_mask"]
        mine = [f for stem in stems for f in files if f.stem == stem and f in masks]
        mine += [f for f in codes if f.name[: -len("_rle.json")] == file.stem]
        if not mine:
            expected = f"{file.stem}{'_mask' if file.suffix.lower() == '.png' else ''}.png"
            raise SupportError(f"{str(file)!r} has no mask; expected is {expected} beside it")
        pairs.append((file, mine[0]))
    owner: dict[Path, Path] = {}
    for file, mask in pairs:
        if owner.setdefault(mask, file) != file:
            raise SupportError(f"{str(mask)!r} is the mask of {owner[mask].name} and of {file.name}; rename one")
    return pairs


def _from_tuple(given: Any) -> Support:
    if not isinstance(given, (tuple, list)) or not 2 <= len(given) <= 3:
        raise SupportError(
            f"a support is Support(image, mask, label) or a tuple (image, mask[, label]), got {type(given).__name__}"
        )
    return Support(*given)


def _describe(image: Any) -> str:
    if isinstance(image, (str, Path)):
        return repr(str(image))
    size = getattr(image, "size", None)
    return f"({type(image).__name__} {size})" if isinstance(size, tuple) else f"({type(image).__name__})"
