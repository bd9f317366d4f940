"""Tokens: encoding, several scales, the store on disk and its data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers_heads import SPEC
from PIL import Image

from clipseg_ws.embedded.nano.scenes import draw_scene
from clipseg_ws.heads.data import Targets
from clipseg_ws.heads.features import FeatureSpec, encode_features, encode_tokens, pixel_batch
from clipseg_ws.heads.store import StoredData, TokenStore
from clipseg_ws.pictures.sources import list_sources
from clipseg_ws.run.training.masks import open_masks, shrink_targets

pytest_plugins = ("fixtures_heads",)


def test_store_equals_encoding_and_goes_on_after_a_kill(scenes, nano, tmp_path):
    names = [s.location for s in list_sources(str(scenes / "photos"))]
    load = lambda name: Image.open(name).convert("RGB")  # noqa: E731
    store = TokenStore(tmp_path, nano.backbone, SPEC)
    assert store.build(names[:4], load, batch_size=2) == 4
    whole = {name: store.read([name]) for name in names[:4]}
    for name in names[:2]:
        expected = encode_features(nano.backbone, pixel_batch(nano.backbone, [load(name)], SPEC), SPEC)
        assert store.read([name]).shape == (1, 2, 192, *expected.shape[-2:])
        assert torch.allclose(store.read([name]).float(), expected, atol=1e-4, rtol=1e-3)
    with open(tmp_path / "tokens.bin", "ab") as file:
        file.write(b"12345")  # a picture that was being written
    with open(tmp_path / "index.jsonl", "ab") as file:
        file.write(b'{"name": "half')
    again = TokenStore(tmp_path, nano.backbone, SPEC)
    assert again.build(names, load) == 2 and again.build(names, load) == 0
    assert all(torch.equal(again.read([name]), tokens) for name, tokens in whole.items())
    expected = encode_features(nano.backbone, pixel_batch(nano.backbone, [load(names[5])], SPEC), SPEC)
    assert torch.allclose(again.read([names[5]]).float(), expected, atol=1e-4, rtol=1e-3)
    with pytest.raises(ValueError, match="short_side"):
        TokenStore(tmp_path, nano.backbone, FeatureSpec(blocks=(1, 5), short_side=80))


def test_features_of_the_blocks(nano):
    pixels = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    tokens = nano.backbone.encode(pixels, attention_blocks=0, keep_layers=[1])
    got = encode_features(nano.backbone, pixels, SPEC)
    assert got.shape == (2, 2, 192, 3, 4)
    assert torch.equal(got[1, 0, :, 1, 2], tokens.layers[1][1, 1 * 4 + 2])
    last = nano.backbone.last_block.forward(tokens.last_input)
    assert torch.allclose(got[1, 1, :, 2, 1], last[1, 1 + 2 * 4 + 1], atol=1e-4)
    with pytest.raises(ValueError, match="blocks"):
        FeatureSpec(blocks=(6,)).resolved(6)
    with pytest.raises(ValueError, match="different"):
        FeatureSpec(blocks=(5, -1)).resolved(6)


def test_tokens_of_several_scales_lie_on_one_grid(nano):
    picture = Image.fromarray(draw_scene(3, (96, 64)).image)  # h != w
    spec = FeatureSpec(blocks=(-1, 1), short_side=64, more_scales=(0.5, 1.5))
    pixels = pixel_batch(nano.backbone, [picture, picture], spec)
    features, tokens = encode_tokens(nano.backbone, pixels, spec, attention_blocks=2)
    bare = FeatureSpec(blocks=(-1, 1), short_side=64)
    first, same = encode_tokens(nano.backbone, pixels, bare, attention_blocks=2)
    assert spec.count == 6 and features.shape == (2, 6, 192, 6, 4) and torch.equal(features[:, :2], first)
    assert torch.equal(tokens.attention, same.attention)  # of the picture's own size
    small = torch.nn.functional.interpolate(pixels, (48, 32), mode="bicubic", antialias=True)
    half = encode_features(nano.backbone, small, bare)
    assert half.shape[-2:] == (3, 2)
    wanted = torch.nn.functional.interpolate(half.flatten(1, 2), (6, 4), mode="bilinear").unflatten(1, (2, 192))
    assert torch.allclose(features[:, 2:4], wanted, atol=1e-5)
    assert FeatureSpec.from_dict(spec.as_dict()) == spec
    old = {key: value for key, value in bare.as_dict().items() if key != "more_scales"}
    assert FeatureSpec.from_dict(old) == bare  # files written before there were scales
    for wrong in ((1.0,), (0.5, 0.5), (0.1,)):
        with pytest.raises(ValueError, match="more_scales"):
            FeatureSpec(more_scales=wrong)


def test_attention_comes_from_the_same_pass(nano):
    pixels = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    features, tokens = encode_tokens(nano.backbone, pixels, SPEC, attention_blocks=2, keep_layers=(3,))
    alone = nano.backbone.encode(pixels, attention_blocks=2, keep_layers=(3,))
    assert torch.allclose(features, encode_features(nano.backbone, pixels, SPEC), atol=1e-4)
    assert torch.equal(tokens.attention, alone.attention) and torch.equal(tokens.layers[3], alone.layers[3])


def test_stored_data_reads_what_was_stored(scenes, nano, tmp_path):
    sources = list_sources(str(scenes / "photos"))
    names = [s.location for s in sources]
    store = TokenStore(tmp_path, nano.backbone, SPEC)
    store.build(names, lambda name: Image.open(name).convert("RGB"))
    grids = [store.entries[name].grid for name in names]
    data = StoredData(store, names, shrink_targets(map(open_masks(scenes / "masks").read, sources), grids, 2))
    batch = data.batch([0, 2], (0,))
    assert batch.features.shape == (2, 2, 192, *grids[0]) and batch.labels.shape == (
        2,
        grids[0][0] * 2,
        grids[0][1] * 2,
    )
    with pytest.raises(ValueError, match="uint8"):
        Targets([np.zeros((2, 2), np.int32)], [np.zeros((2, 2), np.uint8)])
