"""Blocks of the Markdown pages, and the small world in which they run: pictures, labels, data sets, weights."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipseg_ws.embedded.nano.scenes import KINDS, Scene, draw_scene

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SIDE = 112
MEANS = {"cat": "house", "sofa": "tree", "dog": "car"}  # what `nano` is shown where the pages speak of photos
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (.*?) -->\n\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its text, and the comment right above it ("" for none)."""

    page: str
    line: int
    kind: str
    text: str
    mark: str

    @property
    def place(self) -> str:
        """ "docs/heads.md:12"."""
        return f"{self.page}:{self.line}"

    def commands(self) -> Iterator[list[str]]:
        """The words of every line of a shell block; comments dropped, lines that end in a backslash joined."""
        for line in self.text.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def blocks_of(page: Path) -> list[Block]:
    """In order. A block without a language is shown, not run, and left out."""
    text, name = page.read_text("utf-8"), page.relative_to(ROOT).as_posix()
    found = []
    for match in FENCE.finditer(text):
        above = MARK.search(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(name, line, match[2], match[3], above[1] if above else ""))
    return found


def links_of(page: Path) -> list[str]:
    """Targets of links and pictures, those elsewhere left out."""
    text = FENCE.sub("", page.read_text("utf-8"))
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    return [target for target in found if "://" not in target]


def make_world(root: Path) -> None:
    """The files that the pages speak of, drawn small."""
    for number, name in enumerate(("photo", "cat", "a", "b", "c", "photos/a", "photos/b", "frames/000", "frames/001",
                                   "examples/cat/x", "examples/sofa/y", "untold/cat/x", "albums/cat/a")):  # fmt: skip
        scene = scene_with("house", "tree", number)  # which "cat" and "sofa" mean here, see MEANS
        save(root / f"{name}.jpg", scene.image)
        if name in ("cat", "a", "frames/000", "examples/cat/x", "examples/sofa/y"):
            mask = root / ("000.png" if name == "frames/000" else f"{name}.png")
            save(mask, (scene.labels > 0).astype(np.uint8) * 255)
    voc = np.zeros((SIDE, SIDE), np.uint8)
    voc[20:70, 30:80], voc[80:, :20] = 8, 15
    save(root / "voc.png", voc)
    strokes = np.full((SIDE, SIDE), 255, np.uint8)
    strokes[40:44, 20:80], strokes[90:93, 10:60], strokes[5:8, 5:100] = 1, 2, 0
    save(root / "scribbles/a.png", strokes)
    (root / "tags.csv").write_text("image,tags\na.jpg,cat\nb.jpg,cat;sofa\n", "utf-8")
    boxes = [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [15, 20, 50, 60]}]
    pictures = [{"id": 1, "file_name": "b.jpg", "width": SIDE, "height": SIDE}]
    coco = {"images": pictures, "annotations": boxes, "categories": [{"id": 3, "name": "cat"}]}
    (root / "boxes.json").write_text(json.dumps(coco), "utf-8")
    make_data_sets(root, voc)
    make_masks(root / "masks")


def scene_with(first: str, second: str, number: int) -> Scene:
    """The next drawn scene from a seed on that holds both kinds of things."""
    seeds = range(5_000_000 + 1000 * number, 5_000_000 + 1000 * (number + 1))
    return next(s for seed in seeds if {first, second} <= set((s := draw_scene(seed, SIDE)).tags))


def understood(text: str) -> str:
    """A prompt as the stand-in model reads it: the last thing that it knows, else the last word."""
    words = re.findall(r"[a-z]+", text.casefold()) or [text]
    known = [MEANS.get(word, word) for word in words if word in MEANS or word in KINDS]
    return known[-1] if known else words[-1]


def make_data_sets(root: Path, voc: np.ndarray) -> None:
    """VOC's layout with two pictures, and a folder of one's own."""
    base = root / "VOC2012"
    for number, name in enumerate(("2007_000033", "2007_000042")):
        picture = draw_scene(6_000_000 + number, SIDE).image
        save(base / "JPEGImages" / f"{name}.jpg", picture)
        save(base / "SegmentationClass" / f"{name}.png", voc)
        save(root / "mine/images" / f"{name}.jpg", picture)
        save(root / "mine/masks" / f"{name}.png", np.minimum(voc, 1))
    listing = base / "ImageSets/Segmentation/val.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("2007_000033\n2007_000042\n", "utf-8")
    (root / "mine/classes.yaml").write_text("classes: [cat, sofa]\n", "utf-8")


def make_masks(folder: Path) -> None:
    """Masks as ``clipseg-ws pseudo photos/ -o masks/`` writes them, for pages that begin behind that."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[20:90, 20:60], labels[60:, 70:] = 1, 2
    for name in "ab":
        save(folder / "masks" / f"{name}.png", labels)
    (folder / "classes.txt").write_text("background\ncat\nsofa\n", "utf-8")


def save(path: Path, pixels: Any) -> None:
    """An array as picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
