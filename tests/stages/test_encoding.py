"""Pictures to tokens: the limits of the configuration are all obeyed, and a picture is made once for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_ws.config import resolve
from clipseg_ws.stages.cache import TokenCache
from clipseg_ws.stages.encoder import Encoder


def encoder(backbone, **given) -> Encoder:
    return Encoder(backbone, None, resolve("cam", {"attention_blocks": 2} | given), TokenCache())


def draw(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def encoded(made: Encoder, *images: Image.Image, look=(1.0, False)):
    return made.clip(made.pixels([made.picture(image) for image in images], look))


def test_tokens_have_the_grid_that_is_announced(tiny_backbone):
    pictures = [draw(40, 90, seed) for seed in (0, 1)]
    for given in ({}, {"short_side": 64}, {"short_side": 64, "long_side": 80}, {"max_patches": 6}):
        encode = encoder(tiny_backbone, **given)
        tokens = encoded(encode, *pictures)
        assert tokens.grid == encode.grid(pictures[0].size) == encode.picture(pictures[0]).grid[0], given
        assert tokens.attention.shape == (2, *[tokens.grid[0] * tokens.grid[1]] * 2)


def test_other_looks_have_grids_of_their_own(tiny_backbone):
    made = encoder(tiny_backbone, short_side=64)
    picture = made.picture(draw(40, 90))
    rows, columns = picture.grid[0]
    assert tuple(made.pixels([picture], (1.5, False)).shape[2:]) == (round(rows * 1.5) * 16, round(columns * 1.5) * 16)
    mirrored = made.pixels([picture], (1.0, True))
    assert torch.allclose(mirrored.flip(-1), picture.pixels[None], atol=0.016) and not torch.equal(
        mirrored, picture.pixels[None]
    )


def test_a_picture_made_for_other_settings_is_made_anew(tiny_backbone):
    made, other = encoder(tiny_backbone), encoder(tiny_backbone, short_side=64)
    picture = made.picture(draw(32, 48), "a.png")
    assert made.picture(picture) is picture and encoder(tiny_backbone, alpha=2.0).picture(picture) is picture
    again = other.picture(picture)
    assert again.source == "a.png" and again.grid == ((4, 6),) and again.pixels.shape == (3, 64, 96)
    with pytest.raises(AttributeError):
        picture.source = "b.png"
