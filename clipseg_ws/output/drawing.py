"""The overlay picture: arrays in, PIL pictures out, no files."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

# Pillow's built-in font knows ASCII only; for other names the first of these that the system has
_WIDE_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf")

Line = tuple[tuple[int, ...], str]  # colour and text of a legend's line
LEGENDS = ("below", "inside", "none")


def draw_overlay(
    picture: Image.Image, labels: npt.NDArray[Any], colours: npt.NDArray[np.uint8], entries: Sequence[tuple[int, str]],
    *, alpha: float = 0.5, outline: int = -1, legend: str = "below",
) -> Image.Image:  # fmt: skip
    """Picture with coloured labels, outlined regions and a legend.

    Args:
        picture: RGB, W x H.
        labels: [H, W] integer, 0 is left as it is. colours: [n, 3], one for every label that occurs.
        entries: (label, text) for each line of the legend; the label gives the colour.
        alpha: share of the colour inside a region, 0 to 1; outlines are always opaque.
        outline: their width in pixels, 0 for none; -1: by the picture's size.
        legend: "below" the picture, "inside" it, in the corner that covers least, or "none".

    Returns:
        RGB; with a legend below at least as wide as the picture and as high as both together, else of its size.
    """
    painted = Image.fromarray(colours[labels])
    inside = Image.fromarray((labels != 0).astype(np.uint8) * 255)
    result = picture.copy()
    result.paste(Image.blend(picture, painted, alpha), mask=inside)
    width = max(1, round(min(picture.size) / 300)) if outline < 0 else outline
    if width:
        near, edge = _edges(labels, 2 * width), _edges(labels, width)
        shade = Image.fromarray((near & (labels == 0)).astype(np.uint8) * 160)
        result.paste((255, 255, 255), mask=shade)  # a light rim outside: dark colours end visibly on dark ground
        result.paste(painted, mask=Image.fromarray((edge & (labels != 0)).astype(np.uint8) * 255))
    lines: list[Line] = [(tuple(int(v) for v in colours[label]), text) for label, text in entries]
    if legend == "none":
        return result
    return _legend_below(result, lines) if legend == "below" else _legend_inside(result, lines, labels)


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Both pictures on a white sheet, tops aligned, with a gap of 1/50 of the left one's width."""
    gap = max(4, left.width // 50)
    sheet = Image.new("RGB", (left.width + gap + right.width, max(left.height, right.height)), "white")
    sheet.paste(left, (0, 0))
    sheet.paste(right, (left.width + gap, 0))
    return sheet


def _edges(labels: npt.NDArray[Any], reach: int) -> npt.NDArray[np.bool_]:
    """[H, W] bool: another label lies at most ``reach`` pixels away along a row or column."""
    edge = np.zeros(labels.shape, dtype=bool)
    for step in range(1, reach + 1):
        rows, columns = labels[step:] != labels[:-step], labels[:, step:] != labels[:, :-step]
        edge[step:] |= rows
        edge[:-step] |= rows
        edge[:, step:] |= columns
        edge[:, :-step] |= columns
    return edge


def _legend_below(picture: Image.Image, entries: Sequence[Line]) -> Image.Image:
    """The picture on a white sheet, swatches and texts in as many columns as its width holds."""
    size = _text_size(picture)
    font, texts = _font_for([text for _, text in entries], size)
    pad, line = size // 2, round(size * 1.5)
    cell = max((round(font.getlength(text)) for text in texts), default=0) + line + 2 * pad
    columns = max(1, min(len(texts), (picture.width - pad) // cell))
    rows = -(-len(texts) // columns)
    sheet_size = (max(picture.width, cell + pad), picture.height + rows * line + pad)
    sheet = Image.new("RGB", sheet_size, "white")
    sheet.paste(picture, ((sheet.width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    for index, ((colour, _), text) in enumerate(zip(entries, texts, strict=True)):
        left = pad + index // rows * cell  # column by column
        _draw_line(draw, (left, picture.height + pad // 2 + index % rows * line), size, colour, text, font)
    return sheet


def _legend_inside(picture: Image.Image, entries: Sequence[Line], labels: npt.NDArray[Any]) -> Image.Image:
    """A light box with a line a class in the corner where it covers the fewest coloured pixels; too many are cut."""
    size = _text_size(picture)
    font, texts = _font_for([text for _, text in entries], size)
    pad, line = size // 2, round(size * 1.5)
    room = max(1, (picture.height - pad) // line)
    shown = list(zip(entries, texts, strict=True))[:room]
    wide = min(picture.width, max(round(font.getlength(text)) for _, text in shown) + line + 2 * pad)
    high = min(picture.height, len(shown) * line + pad)
    corners = [(x, y) for y in (0, picture.height - high) for x in (0, picture.width - wide)]
    left, top = min(corners, key=lambda at: int((labels[at[1] : at[1] + high, at[0] : at[0] + wide] != 0).sum()))
    box = Image.blend(picture.crop((left, top, left + wide, top + high)), Image.new("RGB", (wide, high), "white"), 0.8)
    draw = ImageDraw.Draw(box)
    for index, ((colour, _), text) in enumerate(shown):
        _draw_line(draw, (pad, pad // 2 + index * line), size, colour, text, font)
    result = picture.copy()
    result.paste(box, (left, top))
    return result


def _draw_line(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], size: int, colour: tuple[int, ...], text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:  # fmt: skip
    """A swatch and its text, ``at`` the line's left top corner."""
    (left, top), line = at, round(size * 1.5)
    draw.rectangle((left, top + size // 5, left + size, top + size // 5 + size), fill=colour, outline="black")
    draw.text((left + line, top + line // 2), text, fill="black", font=font, anchor="lm")


def _text_size(picture: Image.Image) -> int:
    return max(12, round((picture.width * picture.height) ** 0.5 / 32))


def _font_for(texts: list[str], size: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, list[str]]:
    """A font of that many pixels and the texts as it can show them."""
    if all(text.isascii() for text in texts):
        return ImageFont.load_default(size=size), texts
    for name in _WIDE_FONTS:
        try:
            return ImageFont.truetype(name, size), texts
        except OSError:
            continue
    plain = [unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode() or "?" for text in texts]
    return ImageFont.load_default(size=size), plain
