"""Legends in any script: a font that has the characters, or a word on those that none has."""

from __future__ import annotations

import shutil
import subprocess
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFont

from clipseg_ws.output.drawing import draw_overlay
from clipseg_ws.output.fonts import FontWarning, fonts_for, missing
from clipseg_ws.stored import voc_palette

WORDS = ["кошка", "猫", "汽車", "हाथी", "ملعقة", "γάτα", "🐈", "חתול", "고양이", "é ü ß"]


@pytest.mark.skipif(shutil.which("fc-list") is None, reason="no fontconfig on this machine")
@pytest.mark.parametrize("word", WORDS)
def test_a_font_with_the_characters_is_found_or_they_are_named(word):
    def has(text):  # a single font with all of them, as fontconfig sees it
        charset = " ".join(f"{ord(c):x}" for c in text if not c.isspace())
        return bool(subprocess.run(["fc-list", f":charset={charset}"], capture_output=True, text=True).stdout.strip())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FontWarning)
        (font,) = fonts_for([word + "  12.0%"], 18)
    said = "".join(str(one.message) for one in caught)
    if has(word):
        tofu = bytes(font.getmask("\uffff"))
        assert not said and all(bytes(font.getmask(c)) != tofu for c in word if c.isalpha() and not c.isspace())
    lost = [c for c in word if not c.isspace() and not has(c) and c.isalpha()]
    assert all(f"{c} (U+{ord(c):04X})" in said for c in lost)


def test_every_line_gets_a_font_of_its_own():
    cat, russian = fonts_for(["cat", "кошка"], 18)
    assert not missing("cat", cat) and (not missing("кошка", russian) or shutil.which("fc-list") is None)
    assert isinstance(cat, ImageFont.FreeTypeFont) and cat.size == 18


def test_the_legend_shows_different_words_differently():
    labels = np.ones((40, 40), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FontWarning)
        picture, colours = Image.new("RGB", (40, 40)), voc_palette()
        one, two = (np.asarray(draw_overlay(picture, labels, colours, [(1, word)])) for word in ("кошка", "собак"))
    assert one.shape != two.shape or (one != two).any()
