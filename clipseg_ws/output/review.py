"""A page for people who check masks: one self-contained HTML file, the most doubtful pictures first."""

from __future__ import annotations

import base64
import hashlib
import heapq
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from clipseg_ws.files import atomic_write
from clipseg_ws.output.doubt import DOUBTS
from clipseg_ws.output.formats.confidence import read_confidence
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.output.items import Labels
from clipseg_ws.output.palette import ignored_label, safe_palette
from clipseg_ws.pictures.reading import read_image

WIDTH = 480  # pixels of a picture on the page; a click shows it as wide as the page
RANK = "mean"  # of ``doubt.DOUBTS``: predicts errors as well as any that works on masks with 255, docs/pseudo-labels.md
_HERE = files("clipseg_ws.output")
_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Review</title>
<style>{style}</style></head><body data-key="{key}">
<header><h1>Review: {count} pictures, most doubtful first</h1>
<p>Left the picture, then its classes (white: left open, 255), then its confidence (dark: low). A click enlarges.
Keys: a accept, r reject, arrows move, z enlarge. What you choose is kept in this browser.</p>
<p><label>Show <select id="filter"><option value="all">all</option><option value="open">open</option>
<option value="accepted">accepted</option><option value="rejected">rejected</option></select></label>
<button type="button" id="csv">Export all (CSV)</button>
<button type="button" id="accepted">Accepted pictures (list)</button>
<button type="button" id="rejected">Rejected pictures (list)</button>
<span id="counts" role="status"></span></p></header>
<main>
"""


@dataclass(frozen=True)
class Reviewed:
    """One picture's files: ``name`` shown, ``image``, ``mask`` (label PNG), ``confidence`` (8-bit PNG)."""

    name: str
    image: str
    mask: Path
    confidence: Path


def certainty(picture: Reviewed) -> float:
    """How much a mask can be trusted, in [0, 1]: ``RANK`` of its labels and their confidence.

    Raises ValueError for a confidence of another size.
    """
    labels, confidence = read_label_png(picture.mask), read_confidence(picture.confidence)
    if labels.shape != confidence.shape:
        raise ValueError(
            f"{str(picture.confidence)!r} is {list(confidence.shape)}, its mask {list(labels.shape)}; make both anew"
        )
    return DOUBTS[RANK](labels, confidence.astype(np.float32) / 255)


def write_review(path: str | Path, pictures: Iterable[Reviewed], names: Sequence[str], *, most: int = 200) -> int:
    """Write the page with the ``most`` doubtful pictures, least ``certainty`` first; returns how many.

    Every picture shows itself, its classes over it, and its confidence (dark: uncertain). A person accepts or rejects
    them there, and exports a CSV (picture, verdict, confidence), or the accepted or rejected pictures as a list.txt
    that every command takes. Pictures are read one by one; one that cannot be read any more is named without one.
    """
    ranked = heapq.nsmallest(most, ((certainty(p), p.name, i, p) for i, p in enumerate(pictures)))
    key = hashlib.sha256("\n".join(name for _, name, *_ in ranked).encode()).hexdigest()[:16]
    style, script = (_HERE / "review.css").read_text("utf-8"), (_HERE / "review.js").read_text("utf-8")
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(_HEAD.format(style=style, key=key, count=len(ranked)))
        for value, _, _, picture in ranked:
            file.write(_figure(value, picture, names))
        file.write(f"</main>\n<script>{script}</script>\n</body></html>\n")
    return len(ranked)


def _figure(value: float, picture: Reviewed, names: Sequence[str]) -> str:
    labels = read_label_png(picture.mask)
    confidence = Image.fromarray(read_confidence(picture.confidence))
    try:
        photo: Image.Image | None = read_image(picture.image)
    except (OSError, ValueError):  # moved away since
        photo = None
    panels = [] if photo is None else [("the picture", photo), ("its classes", _painted(photo, labels, names))]
    panels.append(("confidence", confidence))
    shown = "".join(f'<img alt="{title}" src="{_data_url(panel)}">' for title, panel in panels)
    name, image = escape(picture.name), escape(picture.image)
    buttons = "".join(
        f'<button type="button" data-verdict="{verdict}" aria-pressed="false">{title}</button>'
        for verdict, title in (("accepted", "Accept"), ("rejected", "Reject"))
    )
    head = f'<figure data-name="{name}" data-image="{image}" data-value="{value:.3f}">'
    caption = f"<figcaption>{buttons} <b>{value:.3f}</b> {name}{_legend(labels, names)}</figcaption>"
    return f'{head}<div class="panels">{shown}</div>{caption}</figure>\n'


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
