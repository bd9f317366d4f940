"""Masks in JSON as label maps: COCO's run lengths and polygons (need pycocotools), LabelMe's shapes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from clipseg_ws.fewshot.shapes import labels_of_shapes


class RleError(ValueError):
    """Run lengths that cannot be decoded; says why."""


def labels_of(content: Mapping[str, Any]) -> npt.NDArray[np.integer[Any]]:
    """[H, W] 0/1 of a code or of an annotation that holds one; category ids where it is COCO json of one picture, as
    the format "rle" writes it; LabelMe's shapes filled (``shapes.py``). Raises RleError, ImportError without
    pycocotools."""
    if "shapes" in content:
        try:
            return labels_of_shapes(content)
        except ValueError as error:
            raise RleError(f"its LabelMe json: {error}") from error
    if "annotations" in content and "images" in content:
        return _of_picture(content)
    return decode_rle(content.get("segmentation", content))


def _of_picture(content: Mapping[str, Any]) -> npt.NDArray[np.int32]:
    images, annotations = content["images"], content["annotations"]
    if len(images) != 1:
        raise RleError(f"its COCO json holds {len(images)} pictures; a mask belongs to one")
    labels = np.zeros((int(images[0]["height"]), int(images[0]["width"])), np.int32)
    for entry in annotations:
        mask = decode_rle(entry.get("segmentation"), labels.shape)
        if mask.shape != labels.shape:
            raise RleError(f"its annotation {entry.get('id')} has {mask.shape}, the picture {labels.shape}")
        labels[mask > 0] = int(entry["category_id"])
    return labels


def decode_rle(code: Any, size: tuple[int, ...] | None = None) -> npt.NDArray[np.uint8]:
    """[H, W] 0/1 of compressed run lengths or a list of counts; of polygons where ``size`` [H, W] is known."""
    try:
        from pycocotools import mask as coco
    except ImportError as error:
        raise ImportError("COCO RLE masks need pycocotools: pip install clipseg_ws[coco]") from error
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
        decoded: npt.NDArray[np.uint8] = coco.decode(coco.merge(coco.frPyObjects(kept, *size)))
        return decoded
    if not isinstance(code, Mapping) or not {"size", "counts"} <= set(code):
        raise RleError("a COCO RLE has 'size' and 'counts', e.g. {'size': [4, 6], 'counts': [3, 21]}")
    try:
        height, width = (int(v) for v in code["size"])
        counts = code["counts"]
        if isinstance(counts, list):
            if sum(counts) != height * width or min(counts, default=0) < 0:
                raise ValueError(f"its counts add up to {sum(counts)}, not to {height} x {width}")
            coded = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        else:
            coded = {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}
        decoded = coco.decode(coded)
        return decoded
    except (ValueError, TypeError, AttributeError) as error:
        raise RleError(f"its RLE cannot be decoded: {error}") from error
