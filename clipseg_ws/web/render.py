"""Answers as pictures and HTML: heat maps, the table, the maps of the stages, what the board shows. No files."""

from __future__ import annotations

import base64
import io
import uuid
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipseg_ws.output.formats.overlay import overlay
from clipseg_ws.output.palette import safe_palette
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.structures import Support
from clipseg_ws.web.ask import Answer, Row

SMALL = 320  # pixels, longest side of a map on the page
BOARD = 960  # of the picture on the drawing board
MOST_CLASSES = 6  # shown with their maps
MOST_ROWS = 60
# dark blue to yellow, in lightness rising evenly (colours of a viridis-like ramp)
_RAMP = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float32)


def heat(values: NDArray[Any]) -> NDArray[np.uint8]:
    """[H, W] in [0, 1] -> uint8 [H, W, 3], dark blue for 0 and yellow for 1."""
    place = np.clip(np.nan_to_num(values), 0, 1) * (len(_RAMP) - 1)
    low = np.minimum(place.astype(int), len(_RAMP) - 2)
    rest = (place - low)[..., None]
    colours: NDArray[np.uint8] = np.rint(_RAMP[low] * (1 - rest) + _RAMP[low + 1] * rest).astype(np.uint8)
    return colours


def confidence_view(result: Segmentation) -> Image.Image:
    """The confidence of every pixel's label as a heat map, RGB, of the picture's size."""
    return Image.fromarray(heat(np.asarray(result.confidence, np.float32)))


def overlay_view(result: Segmentation, opacity: float, borders: bool) -> Image.Image:
    """The overlay, with the borders of the regions in white where they are asked for and there are any."""
    shown = overlay(result, alpha=opacity)
    answers = result.extras.get("regions")
    if not borders or answers is None:
        return shown
    owners = answers.regions.partition()
    line = np.zeros(owners.shape, bool)
    line[:, 1:] |= owners[:, 1:] != owners[:, :-1]
    line[1:] |= owners[1:] != owners[:-1]
    pixels = np.array(shown)
    pixels[: line.shape[0], : line.shape[1]][line] = 255
    return Image.fromarray(pixels)


def colour_of(label: int) -> str:
    """ "#rrggbb" of a label in the palette that the overlay uses."""
    red, green, blue = safe_palette(max(256, label + 1))[label]
    return f"#{red:02x}{green:02x}{blue:02x}"


def class_colours(names: Sequence[str]) -> list[str]:
    """Colours of classes in label order."""
    return [colour_of(i + 1) for i in range(len(names))]


def data_uri(image: Image.Image, longest: int, quality: int = 85) -> str:
    """A JPEG inside a ``data:`` address, shrunk to ``longest`` pixels."""
    small = image.copy()
    small.thumbnail((longest, longest))
    buffer = io.BytesIO()
    small.convert("RGB").save(buffer, format="JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def table_html(rows: Sequence[Row]) -> str:
    """The per-class table; of many classes the absent ones are only counted."""
    shown = [row for row in rows if row.present or len(rows) <= MOST_ROWS]
    lines = "".join(_row_html(row) for row in shown)
    rest = f"<p>{len(rows) - len(shown)} more names are not there.</p>" if len(shown) < len(rows) else ""
    head = "<tr><th>class</th><th>pixels</th><th>score</th><th>there?</th><th>why</th></tr>"
    body = f"<thead>{head}</thead><tbody>{lines}</tbody>"
    return f'<div class="cs-scroll"><table class="cs-table">{body}</table></div>{rest}'


def _row_html(row: Row) -> str:
    swatch = f'<span class="cs-swatch" style="background:{colour_of(row.label)}"></span>'
    score = "–" if row.score is None else f"{row.score:.3f}"
    there = "yes" if row.present else "no"
    return (
        f'<tr class="cs-{there}" data-name="{escape(row.name)}"><td>{swatch}{escape(row.name)}</td>'
        f"<td>{row.share:.1%}</td><td>{score}</td><td>{there}</td><td>{escape(row.why)}</td></tr>"
    )


def stages_html(answer: Answer) -> str:
    """The maps of every stage, class by class (the largest ones), side by side."""
    if not answer.stages:
        return "<p>Maps are switched off in the settings.</p>"
    names, result = answer.result.names, answer.result
    peak = [float(np.max([stage.maps[i].max(initial=0) for stage in answer.stages])) for i in range(len(names))]
    shares = result.shares()
    order = sorted((i for i in range(len(names)) if peak[i] > 0), key=lambda i: (-shares[names[i]], -peak[i]))
    if not order:
        return "<p>No class was found, so there are no maps.</p>"
    blocks = "".join(_class_html(answer, i) for i in order[:MOST_CLASSES])
    rest = f"<p>{len(order) - MOST_CLASSES} more classes have maps.</p>" if len(order) > MOST_CLASSES else ""
    return f'<p class="cs-note">Dark blue is 0, yellow is 1.</p>{blocks}{rest}'


def _class_html(answer: Answer, index: int) -> str:
    name = escape(answer.result.names[index])
    figures = "".join(
        f'<figure><img alt="{name}: {escape(stage.title)}" src="{data_uri(_over(stage.maps[index]), SMALL, 70)}">'
        f"<figcaption>{escape(stage.title)}</figcaption></figure>"
        for stage in answer.stages
    )
    swatch = f'<span class="cs-swatch" style="background:{colour_of(index + 1)}"></span>'
    return f'<h4>{swatch}{name}</h4><div class="cs-maps">{figures}</div>'


def _over(values: NDArray[Any]) -> Image.Image:
    return Image.fromarray(heat(values))


def tinted(picture: Image.Image, mask: NDArray[Any]) -> Image.Image:
    """The picture with the object of a mask [H, W] painted in."""
    inside = Image.fromarray((np.asarray(mask) == 1).astype(np.uint8) * 150)
    return Image.composite(Image.new("RGB", picture.size, (255, 60, 0)), picture, inside)


def supports_html(supports: Sequence[Support]) -> str:
    """Small pictures of the examples with their masks painted in."""
    if not supports:
        return '<p class="cs-note">No examples yet.</p>'
    figures = []
    for number, support in enumerate(supports, 1):
        name, painted = escape(str(support.label)), tinted(support.image, support.mask)
        figures.append(
            f'<figure><img alt="example {number}: {name}" src="{data_uri(painted, 160)}">'
            f"<figcaption>{number}: {name}</figcaption></figure>"
        )
    return f'<div class="cs-examples">{"".join(figures)}</div>'


def error_html(message: str) -> str:
    """A message in place of an answer."""
    return f'<p class="cs-error" role="alert">{escape(message)}</p>'


def status_html(answer: Answer, runs: int) -> str:
    """Time taken, whether the backbone had to run, and names that the model does not know."""
    ran = {0: "the backbone did not run again", 1: "the backbone ran once"}
    parts = [f"<b>{answer.seconds:.2f} s</b>", ran.get(runs, f"the backbone ran {runs} times")]
    if answer.stages:
        parts.insert(1, f"{answer.stage_seconds:.2f} s for the maps of the stages")
    setting = {"zero": "names alone", "weak": "with marks", "few": "with examples"}
    parts.append(setting.get(answer.result.setting, answer.result.setting))
    line = f'<p class="cs-status" data-runs="{runs}" data-serial="{uuid.uuid4().hex}">{" · ".join(parts)}</p>'
    return line + warning_html(answer.unknown)


def warning_html(text: str) -> str:
    """A line that should be read."""
    return f'<p class="cs-warning" role="status">{escape(text)}</p>' if text else ""


def note_html(text: str) -> str:
    """A quiet line."""
    return f'<p class="cs-note">{escape(text)}</p>' if text else ""
