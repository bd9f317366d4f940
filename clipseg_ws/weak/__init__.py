"""Weak labels: which classes a picture holds (tags), and marks in it (boxes, points, scribbles), read from files.

``TAG_FORMATS`` and ``MARK_FORMATS`` list the forms of files. To add one: a file in ``readers/`` with a
``forms.Reader``, which also says how the form is recognised, and a line here. Of readers of one suffix the first that
recognises a file reads it.
"""

from __future__ import annotations

from clipseg_ws.registry import Entry, Registry, registry


def _tags(name: str, title: str, summary: str, module: str) -> Entry:
    return Entry(name, summary, home=f"clipseg_ws.weak.readers.{module}:TAGS", about={"title": title})


def _marks(name: str, title: str, summary: str, module: str) -> Entry:
    return Entry(name, summary, home=f"clipseg_ws.weak.readers.{module}:MARKS", about={"title": title})


TAG_FORMATS: dict[str, Entry] = registry(
    _tags("csv", "CSV or TSV (image,tags)", "a picture a row, its tags joined by ; or |, or one row a tag", "table"),
    _tags("coco", "COCO json", "the categories that are annotated in a picture", "coco"),
    _tags(
        "json",
        'JSON ({"a.jpg": ["cat"]})',
        "a list of tags a picture, or entries with image and tags",
        "listed",
    ),
    _tags("voc", "VOC XML (a file or a folder of them)", "the names of the objects", "voc"),
    _tags("cvat", "CVAT XML", "the labels of shapes and tags", "cvat"),
)
MARK_FORMATS: dict[str, Entry] = registry(
    _marks("voc", "VOC XML", "the bndbox of every object", "voc"),
    _marks("cvat", "CVAT XML", "boxes, points, polylines as scribbles, tags", "cvat"),
    _marks("coco", "COCO json", "the bbox of every annotation", "coco"),
    _marks("labelme", "LabelMe json", "points, rectangles, and lines as scribbles", "labelme"),
    _marks("label-studio", "Label Studio json", "rectanglelabels, keypointlabels, choices as tags", "label_studio"),
    _marks("scribbles", "scribble PNG", "0 background stroke, i + 1 class i, 255 unmarked", "scribbles"),
)


def titles(table: Registry) -> str:
    """The forms of a table in one line, for errors and help texts."""
    return ", ".join(str(entry.about["title"]) for entry in table.values())
