"""How a result shows itself: one line of text, a picture, a picture with a table."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html import escape

from PIL import Image

from clipseg_ws.output.formats.overlay import overlay
from clipseg_ws.output.palette import colours
from clipseg_ws.output.table import rows
from clipseg_ws.structures import Result

MOST = 5  # classes in the line of text
LONGEST = 900  # pixels of a side in a notebook


def one_line(result: Result) -> str:
    """ "Segmentation(photo.jpg, 375 x 500 px: cat 23.1%, background 76.9%)"; width first, as pictures are measured."""
    height, width = result.labels.shape
    found = [row for row in rows(result) if row.share]
    shown = [f"{row.name} {row.share:.1%}" for row in found[: MOST + 1]]
    if len(found) > MOST + 1:
        shown[MOST:] = [f"and {len(found) - MOST} more"]
    source = f"{result.source}, " if result.source else ""
    return f"Segmentation({source}{width} x {height} px: {', '.join(shown) or 'nothing'})"


def png(result: Result) -> bytes:
    """The overlay with its legend as PNG, at most ``LONGEST`` pixels wide and high."""
    buffer = io.BytesIO()
    _shown(result, "below").save(buffer, format="PNG")
    return buffer.getvalue()


def html(result: Result) -> str:
    """The overlay, and a table of the classes that occur: colour, name, share, score."""
    buffer = io.BytesIO()
    _shown(result, "none").save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    shades = colours("safe", max(256, len(result.names) + 1))
    lines = []
    for row in rows(result):
        if row.share:
            red, green, blue = shades[row.label].tolist()
            swatch = f"background:rgb({red},{green},{blue})" if row.label else "border:1px solid #888"
            score = "" if row.score is None else f"{row.score:.3f}"
            cells = f"<td>{escape(row.name)}</td><td>{row.share:.1%}</td><td>{score}</td>"
            square = f'<span style="display:inline-block;width:1em;height:1em;{swatch}"></span>'
            lines.append(f"<tr><td>{square}</td>{cells}</tr>")
    head = "<tr><th></th><th>class</th><th>pixels</th><th>score</th></tr>"
    image = f'<img alt="{escape(one_line(result))}" src="data:image/png;base64,{data}">'
    return f"<div>{image}<table>{head}{''.join(lines)}</table></div>"


def _shown(result: Result, legend: str) -> Image.Image:
    """The overlay, on grey where the result keeps no picture, shrunk for a notebook."""
    try:
        made = overlay(result, legend=legend)
    except ValueError:
        height, width = result.labels.shape
        made = overlay(replace(result, image=Image.new("RGB", (width, height), "gray")), legend=legend)
    made.thumbnail((LONGEST, LONGEST))
    return made
