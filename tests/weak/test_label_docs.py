"""docs/label-formats.md is made from the registries: ``python tests/weak/test_label_docs.py`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from clipseg_ws.fewshot.masks import read_mask
from clipseg_ws.pictures.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from clipseg_ws.registry import table_of
from clipseg_ws.weak import MARK_FORMATS, TAG_FORMATS, matching

PAGE = Path(__file__).resolve().parents[2] / "docs/label-formats.md"
COLUMNS = ("title", "summary", "reads", "ignores", "refuses")
HEAD = """# Label files: what is read, what is left out, what is refused

Made from the registries `TAG_FORMATS` and `MARK_FORMATS` by `python tests/weak/test_label_docs.py`.

Text files are UTF-8 or UTF-16, with or without byte order mark, with any line ends; Latin text of Windows (code page
1252) is read with a warning. A damaged file of a folder is named and left out. Entries that cannot be used are
left out and named: file, entry, what is wrong; a picture of which no entry is left fails with that message. What is
"refused" ends the command before the first picture.
"""
SIZES = """## Places

Every form that states the picture's size (COCO, LabelMe, VOC, CVAT, Label Studio) is compared with the picture. The
same aspect: the marks are scaled, which is said once. The size of the stored picture, where EXIF turns it: the marks
are turned. Anything else is refused with both sizes. Per cent stays per cent.
"""


def cell(text: str) -> str:
    return text.replace("|", "\\|") or "-"


def markdown(table) -> str:
    rows = table_of(table, COLUMNS)
    rows[0] = ["form", "what it gives", "read", "left out", "refused"]
    lines = [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(COLUMNS) + "|", *lines[1:]]) + "\n"


def page() -> str:
    rules = (matching.__doc__ or "").partition("\n\n")[2].strip()
    masks = (read_mask.__doc__ or "").partition("Args:")[0].partition("\n\n")[2]
    plain = "\n".join(line.strip() for line in masks.splitlines()).strip()
    suffixes = f"Pictures: {' '.join(IMAGE_SUFFIXES)} (HEIC with the extra `heif`).\n"
    suffixes += f"Videos are named: {' '.join(VIDEO_SUFFIXES)}."
    parts = [
        HEAD, "## Tags (`--tags`)\n", markdown(TAG_FORMATS), "## Marks (`--marks`)\n", markdown(MARK_FORMATS),
        f"## Which picture an entry belongs to\n\n{rules}\n", SIZES, f"## Masks\n\n{plain}\n",
        f"## Suffixes\n\n{suffixes}\n",
    ]  # fmt: skip
    return "\n".join(parts)


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/weak/test_label_docs.py"


def test_every_form_says_what_it_reads_and_refuses():
    for table in (TAG_FORMATS, MARK_FORMATS):
        for entry in table.values():
            assert entry.about["reads"] and entry.about["refuses"], entry.name


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
