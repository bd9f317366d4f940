"""Results on their way out: label PNG, overlay, JSON, CSV, COCO RLE, confidence; every file whole or not there at all.

Label PNG: palette PNG (VOC colours) whose indices are the labels, 255 = ignored; from 255 classes on 16-bit grey.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from clipseg_ws import __version__
from clipseg_ws.files import ErrorsCsv, append_csv, atomic_write, write_text
from clipseg_ws.output.palette import draw_overlay, ignored_label, voc_palette
from clipseg_ws.pictures.images import to_image
from clipseg_ws.pictures.reading import read_image
from clipseg_ws.pictures.sources import is_url, source_name
from clipseg_ws.structures import IGNORE, Segmentation

__all__ = [
    "FORMATS", "ErrorsCsv", "append_csv", "atomic_write", "check_formats", "format_table", "is_done", "output_paths",
    "overlay", "read_label_png", "save", "voc_palette", "write_label_png",
]  # fmt: skip


def write_label_png(labels: np.ndarray, path: str | Path, *, classes: int | None = None) -> None:
    """Write [H, W] integer labels as PNG, readable back bit-exactly with ``read_label_png``.

    Args:
        labels: 0 to 255, or to 65535.
        classes: size of the vocabulary; from 255 on 16-bit grey is written whatever labels occur. None: only where a
            label is above 255.
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu" or 0 in labels.shape:
        raise ValueError(f"labels must be an integer array [H,W], got {labels.dtype} {list(labels.shape)}")
    low, high = int(labels.min()), int(labels.max())
    wide = high > 255 if classes is None else classes >= IGNORE
    if low < 0 or high > (65535 if wide else 255):
        raise ValueError(f"labels from {low} to {high}; allowed are 0 to 255, from 255 classes on 0 to 65535")
    if wide:
        image = Image.fromarray(labels.astype(np.uint16))
    else:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(voc_palette().tobytes())  # turns "L" into "P", values unchanged
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG")


def read_label_png(path: str | Path) -> np.ndarray:
    """[H, W] labels of a palette, 8-bit grey (uint8) or 16-bit grey (int32) PNG.

    Raises ValueError for a colour picture or a damaged file, FileNotFoundError for none.
    """
    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.asarray(image)
    except FileNotFoundError:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes
        raise ValueError(f"cannot read {str(path)!r}: {error}") from error
    if mode not in ("P", "L", "I;16", "I"):
        raise ValueError(f"{str(path)!r} has mode {mode}: not labels; allowed are palette and grey PNG")
    return values if values.dtype == np.uint8 else values.astype(np.int32)


def overlay(seg: Segmentation, image: Any = None, alpha: float = 0.5) -> Image.Image:
    """The picture with coloured classes, outlines and a legend (name, share of the pixels) below it, RGB.

    Args:
        image: anything ``images.to_image`` takes, of the size of the labels; None: the picture kept in the result, else
            the file it came from.
        alpha: share of colour, 0 to 1.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha={alpha} must lie in [0, 1], e.g. 0.5")
    if image is None and (image := seg.image) is None:
        if seg.source is None or is_url(seg.source):
            raise ValueError("this result keeps no picture; pass it: overlay(seg, image=picture)")
        image = read_image(seg.source)
    picture = to_image(image)
    height, width = seg.labels.shape
    if picture.size != (width, height):
        raise ValueError(f"the picture is {picture.width} x {picture.height}, the labels are {width} x {height}")
    rows = [(label, f"{_short(name)}  {share:.1%}") for label, name, share, _ in _rows(seg) if label and share]
    ignored = ignored_label(len(seg.names))
    if ignored is not None and (share := float((seg.labels == ignored).mean())):
        rows.append((ignored, f"(ignored)  {share:.1%}"))
    return draw_overlay(picture, seg.labels, rows or [(0, "no class found")], alpha)


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:37] + "..."


def _rows(seg: Segmentation) -> list[tuple[int, str, float, float | None]]:
    """(label, name, share, score or None): classes by falling share (equal ones in label order), background last."""
    counts = np.bincount(seg.labels.ravel(), minlength=len(seg.names) + 1) / seg.labels.size
    rows = [(i + 1, name, float(counts[i + 1]), seg.scores.get(name)) for i, name in enumerate(seg.names)]
    return [*sorted(rows, key=lambda row: -row[2]), (0, "background", float(counts[0]), None)]


def format_table(seg: Segmentation) -> str:
    """Plain text table: class, share of the pixels, image score. Beyond 20 names only classes that occur are listed."""
    rows = _rows(seg)
    shown = [row for row in rows if len(seg.names) <= 20 or row[2] or row[0] == 0]
    cells = [("class", "pixels", "score")]
    cells += [(name, f"{share:.1%}", "-" if score is None else f"{score:.3f}") for _, name, share, score in shown]
    wide = [max(len(row[column]) for row in cells) for column in range(3)]
    lines = [f"{name:<{wide[0]}}  {share:>{wide[1]}}  {score:>{wide[2]}}" for name, share, score in cells]
    if len(shown) < len(rows):
        lines.append(f"({len(rows) - len(shown)} more names do not occur)")
    return "\n".join(lines)


def _write_png(seg: Segmentation, path: Path, files: Sequence[str]) -> None:
    write_label_png(seg.labels, path, classes=len(seg.names))


def _write_overlay(seg: Segmentation, path: Path, files: Sequence[str]) -> None:
    picture = overlay(seg)
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=1)  # 4 times faster than the default, at most 1/5 larger


def _write_confidence(seg: Segmentation, path: Path, files: Sequence[str]) -> None:
    values = np.rint(np.clip(np.asarray(seg.confidence, dtype=np.float32), 0, 1) * 255).astype(np.uint8)
    with atomic_write(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG")


def _write_json(seg: Segmentation, path: Path, files: Sequence[str]) -> None:
    height, width = seg.labels.shape
    content = {
        "source": seg.source,
        "size": {"width": width, "height": height},
        "setting": seg.setting,
        "names": list(seg.names),  # label i + 1 is names[i], 0 is background
        "shares": {name: round(share, 6) for name, share in seg.shares().items()},
        "scores": dict(seg.scores),
        "presence": seg.presence(),
        "config": dict(seg.config),
        "files": [name for name in files if name != path.name],
        "version": __version__,
    }
    write_text(path, json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    """The same in JSON's types: numbers out of numpy or torch, NaN and infinity as null, anything else as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in (sorted(value, key=str) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _write_csv(seg: Segmentation, path: Path, files: Sequence[str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("label", "name", "pixels", "share", "score"))
    for label, name, share, score in sorted(_rows(seg), key=lambda row: row[0]):
        writer.writerow((label, name, int((seg.labels == label).sum()), f"{share:.6f}", "" if score is None else score))
    write_text(path, text.getvalue())


def _write_rle(seg: Segmentation, path: Path, files: Sequence[str]) -> None:
    """COCO json of one image: one annotation with compressed RLE for every class that occurs."""
    from pycocotools import mask as coco

    height, width = seg.labels.shape
    annotations: list[dict[str, Any]] = []
    for label, name in enumerate(seg.names, start=1):
        mask = seg.mask(name)
        if mask.any():
            rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
            box, area = coco.toBbox(rle).tolist(), int(coco.area(rle))
            rle["counts"] = rle["counts"].decode("ascii")
            entry = {"id": len(annotations) + 1, "image_id": 1, "category_id": label, "iscrowd": 0, "area": area}
            annotations.append(entry | {"bbox": box, "segmentation": rle, "score": seg.scores.get(name)})
    name = Path(seg.source).name if seg.source else ""
    content = {
        "images": [{"id": 1, "file_name": name, "width": width, "height": height}],
        "annotations": annotations,
        "categories": [{"id": label, "name": name} for label, name in enumerate(seg.names, start=1)],
    }
    write_text(path, json.dumps(_plain(content), ensure_ascii=False) + "\n")


# name -> (what follows the stem, writer(seg, path, names of all files of this result)); what comes between the stem
# and the dot must be in sources.OUTPUT_ENDINGS, so that two pictures never share a file
FORMATS: dict[str, tuple[str, Callable[[Segmentation, Path, Sequence[str]], None]]] = {
    "png": (".png", _write_png),
    "overlay": ("_overlay.png", _write_overlay),
    "json": (".json", _write_json),
    "confidence": ("_confidence.png", _write_confidence),
    "rle": ("_rle.json", _write_rle),
    "csv": (".csv", _write_csv),
}
_NEEDS = {"rle": ("pycocotools", "coco")}  # format -> (module, extra)


def check_formats(formats: str | Sequence[str]) -> tuple[str, ...]:
    """Names of formats, from a sequence or from "png,overlay"; each once.

    Raises:
        ValueError: an unknown name, or none. ImportError: a format whose extra is not installed.
    """
    asked = [name.strip() for name in (formats.split(",") if isinstance(formats, str) else formats)]
    names = tuple(dict.fromkeys(name for name in asked if name))
    if unknown := [name for name in names if name not in FORMATS]:
        raise ValueError(f"unknown format {', '.join(map(repr, unknown))}; allowed: {', '.join(FORMATS)}")
    if not names:
        raise ValueError(f"no format given; allowed: {', '.join(FORMATS)}, e.g. 'png,overlay,json'")
    for name in names:
        module, extra = _NEEDS.get(name, ("json", ""))
        if find_spec(module) is None:
            raise ImportError(f"format {name!r} needs {module}: pip install 'clipseg_ws[{extra}]'")
    return names


def output_paths(directory: str | Path, relative: str | PurePosixPath, formats: str | Sequence[str]) -> list[Path]:
    """Files that ``save`` writes for a source's ``relative`` name, one a format, in order.

    Raises ValueError for a name that is empty, absolute or holds ``..``: nothing is written outside ``directory``.
    """
    place = PurePosixPath(relative)
    if not place.name or place.is_absolute() or ".." in place.parts:
        raise ValueError(f"a result's name must lie below the output folder, e.g. 'trip/img_1'; got {str(relative)!r}")
    folder = Path(directory, *place.parts[:-1])
    return [folder / (place.name + FORMATS[name][0]) for name in check_formats(formats)]


def is_done(directory: str | Path, relative: str | PurePosixPath, formats: Sequence[str]) -> bool:
    """Whether all files of ``output_paths`` are there."""
    return all(path.exists() for path in output_paths(directory, relative, formats))


def save(
    seg: Segmentation,
    directory: str | Path,
    formats: str | Sequence[str] = ("png", "overlay", "json"),
    stem: str | None = None,
    relative: str | PurePosixPath | None = None,
) -> list[Path]:
    """Write one file a format below ``directory`` and return their paths, in order; existing ones are replaced.

    Args:
        formats: names from FORMATS, a sequence or "png,overlay,json".
        stem: file name without suffix; by default that of the source, ``image`` for arrays.
        relative: name with sub-folders (``Source.relative``), instead of ``stem``.

    Raises:
        ValueError: unknown format, a name outside ``directory``, both names, a file that is the source picture itself.
    """
    if stem is not None and relative is not None:
        raise ValueError(f"give stem or relative, not both: stem={stem!r}, relative={str(relative)!r}")
    if stem is not None and PurePosixPath(stem).name != stem:
        raise ValueError(f"stem={stem!r} must be a bare file name without suffix; sub-folders go into relative=")
    name = stem if relative is None else relative
    if name is None:
        name = source_name(seg.source) if seg.source else "image"
    paths = output_paths(directory, name, formats)
    if seg.source and not is_url(seg.source) and Path(seg.source).resolve() in [path.resolve() for path in paths]:
        raise ValueError(f"{seg.source!r} would be overwritten by its own result; choose another output folder or stem")
    for format_name, path in zip(check_formats(formats), paths, strict=True):
        FORMATS[format_name][1](seg, path, [other.name for other in paths])
    return paths
