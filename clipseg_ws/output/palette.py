"""Colours of labels and the overlay picture: arrays in, arrays and PIL pictures out, no files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from clipseg_ws.output.fonts import fonts_for
from clipseg_ws.stored import voc_palette
from clipseg_ws.structures import IGNORE


def draw_overlay(
    picture: Image.Image, labels: np.ndarray, entries: Sequence[tuple[int, str]], alpha: float = 0.5
) -> Image.Image:
    """Picture with coloured labels, outlined regions and a legend below it.

    Args:
        picture: RGB, W x H.
        labels: [H, W] integer, 0 is left as it is.
        entries: (label, text) for each line of the legend; the label gives the colour.
        alpha: share of the colour inside a region, 0 to 1; outlines are always opaque.

    Returns:
        RGB; at least as wide as the picture, as high as picture and legend together.
    """
    colours = voc_palette(max(256, int(labels.max()) + 1))
    painted = Image.fromarray(colours[labels])
    inside = Image.fromarray((labels != 0).astype(np.uint8) * 255)
    result = picture.copy()
    result.paste(Image.blend(picture, painted, alpha), mask=inside)
    width = max(1, round(min(picture.size) / 300))
    near, edge = _edges(labels, 2 * width), _edges(labels, width)
    shade = Image.fromarray((near & (labels == 0)).astype(np.uint8) * 160)
    result.paste((255, 255, 255), mask=shade)  # a light rim outside, so that dark colours end visibly on dark ground
    result.paste(painted, mask=Image.fromarray((edge & (labels != 0)).astype(np.uint8) * 255))
    return _with_legend(result, [(tuple(int(v) for v in colours[label]), text) for label, text in entries])


def _edges(labels: np.ndarray, reach: int) -> np.ndarray:
    """[H, W] bool: another label lies at most ``reach`` pixels away along a row or column."""
    edge = np.zeros(labels.shape, dtype=bool)
    for step in range(1, reach + 1):
        rows, columns = labels[step:] != labels[:-step], labels[:, step:] != labels[:, :-step]
        edge[step:] |= rows
        edge[:-step] |= rows
        edge[:, step:] |= columns
        edge[:, :-step] |= columns
    return edge


def _with_legend(picture: Image.Image, entries: Sequence[tuple[tuple[int, ...], str]]) -> Image.Image:
    """The picture on a white sheet, swatches and texts in as many columns as its width holds."""
    size = max(12, round((picture.width * picture.height) ** 0.5 / 32))
    texts = [text for _, text in entries]
    fonts = fonts_for(texts, size)
    pad, line = size // 2, round(size * 1.5)
    widths = [round(font.getlength(text)) for font, text in zip(fonts, texts, strict=True)]
    cell = max(widths, default=0) + line + 2 * pad
    columns = max(1, min(len(texts), (picture.width - pad) // cell))
    rows = -(-len(texts) // columns)
    sheet_size = (max(picture.width, cell + pad), picture.height + rows * line + pad)
    sheet = Image.new("RGB", sheet_size, "white")
    sheet.paste(picture, ((sheet.width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    for index, ((colour, text), font) in enumerate(zip(entries, fonts, strict=True)):
        left = pad + index // rows * cell  # column by column
        top = picture.height + pad // 2 + index % rows * line
        draw.rectangle((left, top + size // 5, left + size, top + size // 5 + size), fill=colour, outline="black")
        draw.text((left + line, top + line // 2), text, fill="black", font=font, anchor="lm")
    return sheet


def ignored_name(names: Sequence[str]) -> str | None:
    """What tools of people call the pixels that belong to no class: "ignore", or another word where a class has that
    name; None where no label is ignored."""
    if ignored_label(len(names)) is None:
        return None
    return "ignore_255" if "ignore" in names else "ignore"


def ignored_label(classes: int) -> int | None:
    """255 where it means "ignored"; None from 255 classes on, where it is an ordinary label."""
    return IGNORE if classes < IGNORE else None
