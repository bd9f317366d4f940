"""The registry of output formats: one light entry a format here, one file a format (or family) beside it.

``about["scope"]`` tells two kinds apart:

* "picture": one file or folder for each picture. ``about["file"]`` follows the picture's stem ("_overlay.png"; a folder
  ends in "/"). ``home`` writes it: ``write(result, path, files, **parameters)``, ``result`` a ``structures.Result``,
  ``path`` the whole file's name, ``files`` the names of all that is written for this result.
* "dataset": one result for a whole folder. ``about["file"]`` is its name below the output folder. ``home`` writes it:
  ``write(path, items, names, **parameters)``, ``items`` the ``items.Item`` of every picture, one by one.

``about["check"]`` names a function that takes all parameters and raises ValueError for values that cannot be, so that a
run does not fail picture by picture.

Writers go through temporary names (``clipseg_ws.files``). What a picture format puts between stem and dot stands in
``pictures.written.OUTPUT_ENDINGS`` too, so that results of two pictures never share a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from clipseg_ws.registry import Entry, parse_spec, registry, split_outside

_HERE = "clipseg_ws.output.formats."
_COCO = ("pycocotools", "coco")
LOOK = {"alpha": 0.5, "outline": -1, "palette": "safe", "legend": "below"}  # of an overlay


def _picture(name: str, home: str, file: str, summary: str, check: str = "", **more: Any) -> Entry:
    return Entry(name, summary, _HERE + home, about={"scope": "picture", "file": file, "check": check}, **more)


def _dataset(name: str, home: str, file: str, summary: str, check: str = "", **more: Any) -> Entry:
    return Entry(name, summary, _HERE + home, about={"scope": "dataset", "file": file, "check": check}, **more)


FORMATS: dict[str, Entry] = registry(
    _picture("png", "png:write", ".png", "label map as palette PNG, 255 ignored; 16-bit grey from 255 classes on"),
    _picture(
        "overlay", "overlay:write", "_overlay.png", "picture with coloured classes and a legend",
        parameters=LOOK, check="overlay:check_look",
    ),
    _picture(
        "sheet", "overlay:write_sheet", "_sheet.png", "the picture and its overlay side by side (--sheet)",
        parameters=LOOK, check="overlay:check_look",
    ),
    _picture("json", "record:write", ".json", "names, scores, shares, presence and the resolved configuration"),
    _picture("confidence", "confidence:write", "_confidence.png", "confidence as 8-bit grey PNG, 255 is certain"),
    _picture("rle", "coco:write_rle", "_rle.json", "COCO json of one picture, compressed run lengths", needs=_COCO),
    _picture("csv", "counts:write", ".csv", "table of pixels, share and score of every class"),
    _picture("masks", "masks:write_masks", "_masks/", "a binary PNG for every class that occurs"),
    _picture("cutout", "masks:write_cutouts", "_cutout/", "a transparent RGBA PNG for every class that occurs"),
    _picture("polygons", "polygons:write", "_polygons.json", "exact outlines as LabelMe json"),
    _dataset(
        "coco", "coco:write_coco", "coco.json", "COCO json, an annotation for every class or instance of a picture",
        parameters={"style": "rle", "components": False}, needs=_COCO, check="coco:check_style",
    ),
    _dataset(
        "yolo", "yolo:write_yolo", "yolo/", "YOLO segmentation: a text file for every picture, and data.yaml",
        parameters={"split": "train"},
    ),
    _dataset(
        "voc", "voc:write_voc", "voc/", "VOC layout: SegmentationClass, ImageSets, class_names.txt",
        parameters={"split": "train"},
    ),
    _dataset(
        "labelstudio", "labelstudio:write_label_studio", "labelstudio.json",
        "Label Studio tasks with brush predictions, and the labelling set-up", parameters={"prefix": ""},
    ),
    _dataset("cvat", "cvat:write_cvat", "cvat.zip", "zip for CVAT, format Segmentation mask 1.1"),
)  # fmt: skip


def names_of(scope: str) -> tuple[str, ...]:
    """Names of the formats of a scope, "picture" or "dataset"."""
    return tuple(name for name, entry in FORMATS.items() if entry.about["scope"] == scope)


def find_format(text: str) -> tuple[Entry, dict[str, Any]]:
    """Entry and all parameters of "coco" or "coco(style=polygons)". Raises ValueError as ``registry.parse_spec``."""
    spec = parse_spec(text, FORMATS, "format")
    return FORMATS[spec.name], spec.resolved(FORMATS)


def split_formats(formats: str | Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(formats of each picture, formats of the whole folder) that a user asked for; each once, in order.

    Args:
        formats: a sequence, or names with commas between: "overlay, coco(style=polygons)". Formats of the folder are
            made from label PNGs, so that "png" joins where it is missing.

    Raises:
        ValueError: an unknown name or parameter, a value that cannot be, the same format with different parameters, or
            no name at all.
        ImportError: a format whose extra is not installed; it names the pip line.
    """
    asked = split_outside(formats, ",") if isinstance(formats, str) else [text.strip() for text in formats]
    specs = list(dict.fromkeys(parse_spec(text, FORMATS, "format") for text in asked if text))
    if not specs:
        raise ValueError(f"no format given; allowed: {', '.join(FORMATS)}, e.g. 'png,overlay,json'")
    if twice := {spec.name for spec in specs if [other.name for other in specs].count(spec.name) > 1}:
        raise ValueError(f"format {', '.join(sorted(twice))} is asked for with different parameters; choose one")
    for spec in specs:
        FORMATS[spec.name].check_installed()
        if check := FORMATS[spec.name].about.get("check"):
            module, _, name = check.partition(":")
            getattr(import_module(_HERE + module), name)(**spec.resolved(FORMATS))
    pictures, datasets = (
        tuple(str(spec) for spec in specs if FORMATS[spec.name].about["scope"] == scope)
        for scope in ("picture", "dataset")
    )
    if datasets and "png" not in pictures:
        pictures += ("png",)
    return pictures, datasets


def picture_formats(formats: str | Sequence[str]) -> tuple[str, ...]:
    """The formats of one picture, checked as ``split_formats`` does.

    Raises ValueError for a format of a whole folder too.
    """
    pictures, datasets = split_formats(formats)
    if datasets:
        raise ValueError(
            f"format {', '.join(datasets)} is one result for a whole folder, not for one picture: save the pictures as "
            "'png', then call clipseg_ws.output.datasets.write_datasets; --format of the commands does both"
        )
    return pictures


def dataset_formats(formats: str | Sequence[str]) -> tuple[str, ...]:
    """The formats of a whole folder, checked as ``split_formats`` does; () for an empty sequence.

    Raises ValueError for a format of one picture too.
    """
    if not formats:
        return ()
    pictures, datasets = split_formats(formats)
    if wrong := [text for text in pictures if not datasets or text != "png"]:
        raise ValueError(f"format {', '.join(wrong)} is written for each picture; allowed: {names_of('dataset')}")
    return datasets
