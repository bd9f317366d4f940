"""A page for people who check masks: one self-contained HTML file, the least certain pictures first."""

from __future__ import annotations

import base64
import heapq
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from clipseg_ws.files import atomic_write
from clipseg_ws.output.formats.confidence import read_confidence
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.output.items import Labels
from clipseg_ws.output.palette import ignored_label, safe_palette
from clipseg_ws.pictures.reading import read_image

WIDTH = 320  # pixels of a picture on the page
_STYLE = """body{font:15px/1.4 system-ui,sans-serif;margin:2em auto;max-width:1100px;padding:0 1em;color:#222}
figure{margin:0 0 1.5em;padding:.8em;border:1px solid #ccc;border-radius:6px}
figure img{max-width:32%;height:auto;vertical-align:top}figcaption{margin-top:.4em}
.swatch{display:inline-block;width:.9em;height:.9em;border:1px solid #000;vertical-align:-1px;margin:0 .25em 0 .8em}
"""


@dataclass(frozen=True)
class Reviewed:
    """One picture's files: ``name`` shown, ``image``, ``mask`` (label PNG), ``confidence`` (8-bit PNG)."""

    name: str
    image: str
    mask: Path
    confidence: Path


def mean_confidence(path: Path) -> float:
    """Mean of an 8-bit confidence PNG in [0, 1]."""
    return float(read_confidence(path).astype(np.float32).mean()) / 255


def write_review(path: str | Path, pictures: Iterable[Reviewed], names: Sequence[str], *, most: int = 200) -> int:
    """Write the page with the ``most`` least certain pictures, lowest mean confidence first; returns how many.

    Every picture shows itself, its classes over it, and its confidence (dark: uncertain). Pictures are read one by
    one; a picture that cannot be read any more is named without one.
    """
    ranked = heapq.nsmallest(most, ((mean_confidence(p.confidence), p.name, i, p) for i, p in enumerate(pictures)))
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(
            f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Review</title><style>{_STYLE}</style>\n'
        )
        file.write(f"<h1>Review: {len(ranked)} pictures, least certain first</h1>\n")
        file.write(
            "<p>Left the picture, then its classes (white: left open, 255), then its confidence (dark: low).</p>\n"
        )
        for value, _, _, picture in ranked:
            file.write(_figure(value, picture, names))
        file.write("</html>\n")
    return len(ranked)


def _figure(value: float, picture: Reviewed, names: Sequence[str]) -> str:
    labels = read_label_png(picture.mask)
    confidence = Image.fromarray(read_confidence(picture.confidence))
    try:
        photo: Image.Image | None = read_image(picture.image)
    except (OSError, ValueError):  # moved away since
        photo = None
    panels = [] if photo is None else [photo, _painted(photo, labels, names)]
    shown = "".join(f'<img alt="" src="{_data_url(panel)}"> ' for panel in [*panels, confidence])
    words = _legend(labels, names)
    return f"<figure>{shown}<figcaption><b>{value:.3f}</b> {escape(picture.name)}{words}</figcaption></figure>\n"


def _painted(photo: Image.Image, labels: Labels, names: Sequence[str]) -> Image.Image:
    """Classes at half strength over the picture, ignored pixels nearly white."""
    colours = safe_palette(max(256, len(names) + 1)).astype(np.float32)
    strength = np.where(labels == 0, 0.0, 0.5)
    ignored = ignored_label(len(names))
    if ignored is not None:
        colours[ignored] = 255
        strength = np.where(labels == ignored, 0.75, strength)
    base = np.asarray(photo.convert("RGB").resize(labels.shape[::-1]), dtype=np.float32)
    mixed = base + strength[..., None] * (colours[labels] - base)
    return Image.fromarray(mixed.round().astype(np.uint8))


def _legend(labels: Labels, names: Sequence[str]) -> str:
    colours = safe_palette(max(256, len(names) + 1))
    parts = []
    for label in np.unique(labels).tolist():
        name = "(left open)" if label == ignored_label(len(names)) else "background" if label == 0 else names[label - 1]
        red, green, blue = (255, 255, 255) if name == "(left open)" else colours[label].tolist()
        share = float((labels == label).mean())
        parts.append(
            f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>{escape(name)} {share:.1%}'
        )
    return "".join(parts)


def _data_url(picture: Image.Image) -> str:
    small = picture.convert("RGB")
    small.thumbnail((WIDTH, WIDTH))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
