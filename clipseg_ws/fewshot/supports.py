"""Examples: pictures with the mask of a thing, from files, arrays, label PNGs, COCO RLE or a folder -> ``Support``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from clipseg_ws.pictures.images import to_image
from clipseg_ws.pictures.reading import ImageError
from clipseg_ws.pictures.sources import IMAGE_SUFFIXES
from clipseg_ws.structures import IGNORE, Support

UNNAMED = "object"  # the name of what has no label
_ALLOWED = (
    "a file, an array [H, W] (bool or integers), a PIL image, a COCO RLE dict, or (one of these, label value), "
    "for example ('2007_000033.png', 1)"
)


class SupportError(ValueError):
    """An example that cannot be used; the message names it and says why."""


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


def read_mask(mask: Any, size: tuple[int, int], name: str = "mask") -> np.ndarray:
    """A mask -> uint8 [H, W]: 1 object, 0 background, 255 ignored.

    * Without a label value everything non-zero is the object and 255 is ignored; where 255 is the only value besides 0
      it is the object, and a grey picture with many values of which 255 is the commonest is a soft mask (object from
      128 up). Colour pictures: whatever is not black.
    * With a label value, ``(mask, 8)`` or ``"mask.png#8"``, the pixels of that value; 255 is ignored.

    Args:
        mask: file (a PNG with a palette gives its indices; a ``.json`` file holds one RLE), array, PIL image, COCO RLE
            dict ``{"size": [H, W], "counts": ...}`` (needs pycocotools), or (one of these, value).
        size: (width, height) of the upright picture, which the mask must have.

    Raises:
        SupportError: not readable, another size, or no object pixel; the message begins with ``name``.
    """
    source, value = mask if isinstance(mask, tuple) and len(mask) == 2 else _split_value(mask)
    values, grey = _values(source, name)
    if values.shape != (size[1], size[0]):
        turned = values.shape == size and size[0] != size[1]
        hint = "; the picture was turned upright by its EXIF, the mask was not" if turned else ""
        raise SupportError(
            f"{name}: its mask is {values.shape[1]}x{values.shape[0]} pixels, the picture {size[0]}x{size[1]}{hint}; "
            "a mask of the picture's size is needed"
        )
    result = _object(values, value, grey)
    if not (result == 1).any():
        found = ", ".join(map(str, np.unique(values)[:12]))
        wanted = "any value but 0" if value is None else f"value {value}"
        raise SupportError(f"{name}: its mask is empty: no pixel has {wanted} (it holds {found})")
    return result


def read_support_dir(path: str | Path, *, masks: bool = True) -> list[Support]:
    """Examples of a folder: ``label/picture.jpg`` with ``label/picture.png`` as its mask; pairs right in the folder
    have no label. A picture that is itself a PNG has its mask in ``picture_mask.png``.

    ``masks=False``: every picture ``label/picture.*`` is an example without a mask (weak-few).

    Raises:
        FileNotFoundError: no such folder. SupportError: no pairs, or a picture without a mask.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {str(root)!r}; expected is label/picture.jpg + label/picture.png in it")
    found: list[Support] = []
    for folder in [root, *sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))]:
        label = None if folder == root else folder.name
        if masks:
            found += [Support(image, mask, label) for image, mask in _pairs(folder)]
        elif label is not None:
            found += [Support(image, None, label) for image in _pictures(folder)]
    if not found:
        raise SupportError(f"{str(root)!r} holds no examples; expected is label/picture.jpg + label/picture.png in it")
    return found


def _pictures(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    files = _pictures(folder)
    masks = {f.name for f in files if f.suffix.lower() == ".png"}
    stems = {f.stem for f in files if f.suffix.lower() != ".png"}
    pairs = []
    for file in files:
        is_mask = file.name in masks and (file.stem in stems or file.stem.endswith("_mask"))
        if is_mask:
            continue
        mask = next((m for m in (f"{file.stem}.png", f"{file.stem}_mask.png") if m in masks and m != file.name), None)
        if mask is None:
            expected = f"{file.stem}{'_mask' if file.name in masks else ''}.png"
            raise SupportError(f"{str(file)!r} has no mask; expected is {expected} beside it")
        pairs.append((file, folder / mask))
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


def _split_value(mask: Any) -> tuple[Any, int | None]:
    """ "mask.png#8" -> ("mask.png", 8), unless a file has that very name."""
    if isinstance(mask, str) and not Path(mask).exists():
        path, sign, value = mask.rpartition("#")
        if sign and value.isdigit():
            return path, int(value)
    return mask, None


def _values(source: Any, name: str) -> tuple[np.ndarray, bool]:
    """Mask values [H, W] (integers), and whether they come from a grey picture or array that may be a soft mask."""
    if isinstance(source, Mapping):
        return _rle(source, name), False
    if isinstance(source, (str, Path)):
        source = _file(Path(source), name)
        if isinstance(source, Mapping):
            return _rle(source, name), False
    if isinstance(source, Image.Image):
        palette = source.mode in ("P", "1")
        plain = source if source.mode in ("P", "L", "1", "I", "I;16") else source.convert("RGB")
        source, soft = np.asarray(plain), not palette
    else:
        soft = True
    values = np.asarray(source)
    if values.ndim == 3 and values.shape[2] in (3, 4) and values.dtype == np.uint8:
        values = values[..., :3].max(-1)  # colour: whatever is not black
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise SupportError(f"{name}: its mask is {type(source).__name__} {list(values.shape)} of {values.dtype}; "
                           f"allowed: {_ALLOWED}")  # fmt: skip
    return values, soft and values.dtype != bool


def _file(path: Path, name: str) -> Any:
    """A PIL image, or the RLE of a JSON file."""
    if not path.is_file():
        raise SupportError(f"{name}: there is no mask {str(path)!r}")
    try:
        if path.suffix.lower() == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SupportError(f"{name}: its mask {str(path)!r} cannot be read: {error}") from error


def _rle(rle: Mapping[str, Any], name: str) -> np.ndarray:
    """COCO RLE, compressed or as a list of counts -> [H, W] 0/1."""
    rle = rle.get("segmentation", rle)
    if not isinstance(rle, Mapping) or not {"size", "counts"} <= set(rle):
        raise SupportError(f"{name}: a COCO RLE has 'size' and 'counts', e.g. {{'size': [4, 6], 'counts': [3, 21]}}")
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise ImportError("COCO RLE masks need pycocotools: pip install clipseg_ws[coco]") from error
    height, width = (int(v) for v in rle["size"])
    counts = rle["counts"]
    try:
        if isinstance(counts, list):
            if sum(counts) != height * width or min(counts, default=0) < 0:
                raise ValueError(f"its counts add up to {sum(counts)}, not to {height} x {width}")
            coded = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        else:
            coded = {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}
        decoded: np.ndarray = coco.decode(coded)
        return decoded
    except (ValueError, TypeError, AttributeError) as error:
        raise SupportError(f"{name}: its RLE cannot be decoded: {error}") from error


def _object(values: np.ndarray, value: int | None, grey: bool) -> np.ndarray:
    """Mask values -> 1 object, 0 background, 255 ignored; the rule of ``read_mask``."""
    if values.dtype == bool:
        return values.astype(np.uint8)
    if value is not None:
        ignored = (values == IGNORE) & (value != IGNORE)
        return np.where(values == value, 1, np.where(ignored, IGNORE, 0)).astype(np.uint8)
    kinds, counts = np.unique(values[values != 0], return_counts=True)
    if len(kinds) == 1 and kinds[0] == IGNORE:
        whole: np.ndarray = values == IGNORE
        return whole.astype(np.uint8)
    if grey and len(kinds) > 3 and kinds[counts.argmax()] == IGNORE:
        return (values >= 128).astype(np.uint8)
    return np.where(values == IGNORE, IGNORE, values != 0).astype(np.uint8)
