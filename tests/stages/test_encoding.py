"""Pictures to tokens: the limits of the configuration are all obeyed, and the cache tells apart what differs."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from clipseg_ws.config import resolve
from clipseg_ws.stages.encoder import Encoder
from clipseg_ws.stages.token_cache import TokenCache


def encoder(backbone, cache=None, **given) -> Encoder:
    return Encoder(
        backbone, None, resolve("cam", {"attention_blocks": 2} | given), TokenCache() if cache is None else cache
    )


def draw(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_tokens_have_the_grid_that_is_announced(tiny_backbone):
    pictures = [draw(40, 90, seed) for seed in (0, 1)]
    for given in ({}, {"short_side": 64}, {"short_side": 64, "long_side": 80}, {"max_patches": 6}):
        encode = encoder(tiny_backbone, **given)
        tokens = encode.clip(pictures)
        assert tokens.grid == encode.grid(pictures[0].size), given
        assert tokens.attention.shape == (2, *[tokens.grid[0] * tokens.grid[1]] * 2)
    whole = draw(32, 48)
    as_it_is = encoder(tiny_backbone, short_side=64).clip([whole], resize=False)
    assert as_it_is.grid == (2, 3)
    assert torch.allclose(as_it_is.last_input, encoder(tiny_backbone).clip([whole]).last_input)


def test_the_cache_tells_apart_what_differs(tiny_backbone):
    cache, picture = TokenCache(), draw(32, 48)
    encoder(tiny_backbone, cache, cache_tokens=50).clip([picture])
    encoder(tiny_backbone, cache, cache_tokens=50, alpha=2.0).clip([picture.copy()])
    assert len(cache) == 1
    changes = ({"short_side": 64}, {"attention_blocks": 1}, {"structure": "both", "structure_blocks": 2})
    for count, given in enumerate(changes, start=2):
        encoder(tiny_backbone, cache, cache_tokens=50, **given).clip([picture])
        assert len(cache) == count
    encoder(tiny_backbone, cache, cache_tokens=50, short_side=96).clip([picture], resize=False)
    assert len(cache) == 5
