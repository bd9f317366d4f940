"""Pictures to tokens: the limits of the configuration are all obeyed, and the key tells apart what differs."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from clipseg_ws import Segmenter
from clipseg_ws.config import resolve
from clipseg_ws.encoding import encode_pictures, picture_key


def test_tokens_have_the_grid_that_the_segmenter_announces(tiny_backbone):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (40, 90, 3), dtype=np.uint8)) for _ in range(2)]
    for given in ({}, {"short_side": 64}, {"short_side": 64, "long_side": 80}, {"max_patches": 6}):
        segment = Segmenter(backbone=tiny_backbone, attention_blocks=2, **given)
        tokens = encode_pictures(tiny_backbone, pictures, segment.config)
        assert tokens.grid == segment.grid(pictures[0].size), given
        assert tokens.attention.shape == (2, *[tokens.grid[0] * tokens.grid[1]] * 2)
    whole = Image.fromarray(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8))
    as_it_is = encode_pictures(tiny_backbone, [whole], resolve("cam", {"short_side": 64}), resize=False)
    assert as_it_is.grid == (2, 3)
    plain = encode_pictures(tiny_backbone, [whole], resolve("cam", {}))
    assert torch.allclose(as_it_is.last_input, plain.last_input)


def test_key():
    picture = Image.new("RGB", (40, 20))
    base = picture_key(picture, resolve("default", {}), 12)
    assert base == picture_key(picture.copy(), resolve("default", {"alpha": 2}), 12)
    changes = ({"short_side": 64}, {"attention_blocks": 3}, {"structure": "both", "structure_blocks": 3})
    others = [picture_key(picture, resolve("default", given), 12) for given in changes]
    others += [picture_key(Image.new("RGB", (20, 40)), resolve("default", {}), 12)]
    others += [picture_key(picture, resolve("default", {}), 12, resize=False)]
    assert len({base, *others}) == 6
