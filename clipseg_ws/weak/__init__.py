"""Weak labels: which classes a picture holds (tags), and marks in it (boxes, points, scribbles), read from files.

``TAG_FORMATS`` and ``MARK_FORMATS`` list the forms of files. To add one: a file in ``readers/`` with a
``forms.Reader``, which also says how the form is recognised, and a line here. Of readers of one suffix the first that
recognises a file reads it. ``docs/label-formats.md`` is made from these tables.
"""

from __future__ import annotations

from clipseg_ws.registry import Entry, Registry, registry


def _tags(name: str, title: str, summary: str, module: str, *, reads: str, ignores: str, refuses: str) -> Entry:
    about = {"title": title, "reads": reads, "ignores": ignores, "refuses": refuses}
    return Entry(name, summary, home=f"clipseg_ws.weak.readers.{module}:TAGS", about=about)


def _marks(name: str, title: str, summary: str, module: str, *, reads: str, ignores: str, refuses: str) -> Entry:
    about = {"title": title, "reads": reads, "ignores": ignores, "refuses": refuses}
    return Entry(name, summary, home=f"clipseg_ws.weak.readers.{module}:MARKS", about=about)


_COCO = "instances, keypoints, panoptic (its segments), ids as numbers or text"
_COCO_ODD = "annotations of no listed image or category (named)"
_COCO_NOT = "result lists and captions, which hold no file names or no classes"

TAG_FORMATS: dict[str, Entry] = registry(
    _tags(
        "csv", "CSV or TSV (image,tags)", "a picture a row, its tags joined by ; or |, or one row a tag", "table",
        reads="commas, semicolons, tabs, a sep= line; headings such as image, file, path and tags, label, category, or "
        "none: then the picture stands first",
        ignores="other columns; background and __ignore__ as tags",
        refuses="a first row of unknown words, numbers and scores, several tags joined by commas, one column per class",
    ),
    _tags(
        "coco", "COCO json", "the categories that are annotated in a picture", "coco",
        reads=_COCO, ignores=_COCO_ODD, refuses=_COCO_NOT,
    ),
    _tags(
        "json", 'JSON ({"a.jpg": ["cat"]})', "a list of tags a picture, or entries with image and tags", "listed",
        reads="a mapping, a list of entries with the columns of a table, or such an entry a line (JSON lines)",
        ignores="other keys of an entry; background and __ignore__ as tags",
        refuses="numbers, files of other tools",
    ),
    _tags(
        "voc", "VOC XML (a file or a folder of them)", "the names of the objects", "voc",
        reads="any encoding that the file declares", ignores="parts of objects", refuses="another root than annotation",
    ),
    _tags(
        "cvat", "CVAT XML", "the labels of shapes and tags", "cvat",
        reads="CVAT for images 1.1", ignores="attributes", refuses="video exports (tracks)",
    ),
)  # fmt: skip
MARK_FORMATS: dict[str, Entry] = registry(
    _marks(
        "voc", "VOC XML", "the bndbox of every object", "voc",
        reads="pixels from 1 with inclusive ends, swapped corners, robndbox (the box around it); filename where no "
        "picture has the file's own name",
        ignores="parts, pose, difficult, truncated; objects without four numbers (named)",
        refuses="another root than annotation; two pictures for the file's name and its filename",
    ),
    _marks(
        "cvat", "CVAT XML", "boxes, points, polylines as scribbles, tags", "cvat",
        reads="CVAT for images 1.1; the box around rotated boxes, polygons, ellipses and masks",
        ignores="attributes, occluded, z_order; cuboids and skeletons (named); tags beside shapes",
        refuses="video exports (tracks)",
    ),
    _marks(
        "coco", "COCO json", "the bbox of every annotation", "coco",
        reads=f"{_COCO}; the box around the segmentation where there is no bbox",
        ignores=f"{_COCO_ODD}; bbox of three numbers, negative or not finite (named); keypoints",
        refuses=_COCO_NOT,
    ),
    _marks(
        "labelme", "LabelMe json", "points, rectangles, and lines as scribbles", "labelme",
        reads="LabelMe 3 to 5 and X-AnyLabeling: rectangles of two or four corners; the box around rotated ones, "
        "polygons, circles and masks; imagePath names the picture; _background_ is background",
        ignores="__ignore__, ignore (unless it is a class), flags, group_id, imageData; unknown shapes and those with "
        "too few points (named)",
        refuses="a box of the background",
    ),
    _marks(
        "label-studio", "Label Studio json", "rectanglelabels, keypointlabels, choices as tags", "label_studio",
        reads="JSON, JSON-MIN, old completions; Rectangle + Labels; the box around rotated regions, polygons, ellipses "
        "and brush masks; the last annotation of a task; hashed upload names where one picture fits",
        ignores="relations, text, ratings, choices of a region, regions without a label (counted); tasks with "
        "predictions only; cancelled annotations; ignore (unless it is a class); regions of a picture that was turned "
        "in Label Studio (named)",
        refuses="video, text and vector regions",
    ),
    _marks(
        "scribbles", "scribble PNG", "0 background stroke, i + 1 class i, 255 unmarked", "scribbles",
        reads="palette and 8-bit grey PNG of the picture's size; VOC's colours, also in a palette of another order: "
        "white and what is transparent are unmarked",
        ignores="", refuses="other colours, labels beyond the classes, a folder without -c: numbers have no names",
    ),
)  # fmt: skip


def titles(table: Registry) -> str:
    """The forms of a table in one line, for errors and help texts."""
    return ", ".join(str(entry.about["title"]) for entry in table.values())
