"""Masks in JSON as label maps: COCO's run lengths and polygons (need pycocotools), LabelMe's shapes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from clipseg_ws.door.errors import InputError
from clipseg_ws.door.pictures import check_size
from clipseg_ws.door.runs import decode_runs, draw_polygons
from clipseg_ws.fewshot.shapes import labels_of_shapes
from clipseg_ws.values import is_number


class RleError(InputError):
    """Run lengths that cannot be decoded; says why."""


def labels_of(content: Mapping[str, Any], size: tuple[int, int] | None = None) -> npt.NDArray[np.integer[Any]]:
    """[H, W] 0/1 of a code or of an annotation that holds one; category ids where it is COCO json of one picture, as
    the format "rle" writes it; LabelMe's shapes filled (``shapes.py``).

    Args:
        size: (width, height) of the picture, against which the declared size is held before anything is decoded.

    Raises RleError; ImportError for polygons without pycocotools.
    """
    try:
        if "shapes" in content:
            if size is not None:
                _check_sides((content.get("imageHeight"), content.get("imageWidth")), size)
            return labels_of_shapes(content)
        if "annotations" in content and "images" in content:
            return _of_picture(content, size)
        code = content.get("segmentation", content)
        if isinstance(code, Mapping) and size is not None:
            _check_sides(code.get("size"), size)
        return decode_rle(code)
    except RleError:
        raise
    except InputError as error:
        raise RleError(f"its {_kind(content)} cannot be decoded: {error}") from error
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, OverflowError) as error:
        raise RleError(f"its {_kind(content)} cannot be decoded: {type(error).__name__}: {error}") from error


def _kind(content: Mapping[str, Any]) -> str:
    return "LabelMe json" if "shapes" in content else "RLE"


def _check_sides(given: Any, size: tuple[int, int]) -> None:
    """Raise RleError for a declared (H, W) much larger than the picture (width, height)."""
    if not isinstance(given, (list, tuple)) or len(given) != 2 or not all(map(is_number, given)):
        return  # decoding says what is wrong
    width, height = check_size(given[1], given[0])
    if max(width, height) > 4 * max(size):
        raise RleError(f"its size is {width}x{height} pixels, the picture {size[0]}x{size[1]}")


def _of_picture(content: Mapping[str, Any], size: tuple[int, int] | None) -> npt.NDArray[np.int32]:
    images, annotations = content["images"], content["annotations"]
    if len(images) != 1:
        raise RleError(f"its COCO json holds {len(images)} pictures; a mask belongs to one")
    width, height = check_size(images[0]["width"], images[0]["height"])
    if size is not None:
        _check_sides((height, width), size)
    labels = np.zeros((height, width), np.int32)
    for entry in annotations:
        try:
            mask = decode_rle(entry.get("segmentation"), labels.shape)
        except InputError as error:
            raise RleError(f"its annotation {entry.get('id')!r:.40}: {error}") from error
        labels[mask > 0] = int(entry["category_id"])
    return labels


def decode_rle(code: Any, size: tuple[int, ...] | None = None) -> npt.NDArray[np.uint8]:
    """[H, W] 0/1 of compressed run lengths or a list of counts; of polygons where ``size`` [H, W] is known.

    Raises InputError, ImportError for polygons without pycocotools.
    """
    if isinstance(code, list) and code and size is not None:
        pieces = code if isinstance(code[0], (list, tuple)) else [code]
        kept = [list(piece) for piece in pieces if len(piece) >= 6 and len(piece) % 2 == 0]
        if not kept:
            raise RleError(f"its polygons have no three corners: {code!r:.60}")
        if len(kept) < len(pieces):
            warnings.warn(
                f"{len(pieces) - len(kept)} of {len(pieces)} pieces of a polygon have no three corners: left out",
                stacklevel=2,
            )  # fmt: skip
        return draw_polygons(kept, size)
    return decode_runs(code, size)
