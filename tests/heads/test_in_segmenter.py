"""A trained head inside a ``Segmenter``: maps, sizes, memory, files that do not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn.functional import adaptive_avg_pool2d

from clipseg_ws import Segmenter
from clipseg_ws.config import resolve
from clipseg_ws.heads.file import load_head, save_head
from clipseg_ws.refine.affinity import class_aware_affinity
from clipseg_ws.stages.by_head import spread_winners, winners
from clipseg_ws.structures import Seen, Support, Tokens

pytest_plugins = ("fixtures_heads",)


def test_maps_of_a_head_are_spread_along_the_attention():
    """Against the definition, with an absent second class and attention that only knows one neighbour."""
    config = resolve("cam", {"affinity": 0.1, "head_affinity": 0.5})
    probabilities = torch.zeros(1, 3, 4, 6)  # 2 x 3 patches, two pixels a side
    probabilities[0, 1, :2, :2] = 0.8  # the first patch
    probabilities[0, 0] = 1 - probabilities[0, 1]
    maps = winners(probabilities, None)
    attention = torch.full((1, 6, 6), 0.01) + torch.eye(6)
    attention[0, 0, 1] = attention[0, 1, 0] = 1.0
    tokens = Tokens(last_input=torch.zeros(1), attention=attention, layers={}, grid=(2, 3))
    spread = class_aware_affinity(adaptive_avg_pool2d(maps.maps, (2, 3)), attention, threshold=0.1)
    wide = torch.nn.functional.interpolate(spread, size=(4, 6), mode="bilinear", align_corners=False)
    both = wide.sqrt() * maps.maps.sqrt()
    got = spread_winners(maps, Seen(tokens, maps.classes, 6), config, None)
    total = both.sum(1) + maps.background
    assert torch.allclose(got.maps, both / total[:, None], atol=1e-6)
    assert torch.allclose(got.maps.sum(1) + got.background, torch.ones(1, 4, 6), atol=1e-6)
    empty = winners(torch.eye(3)[0].reshape(1, 3, 1, 1).expand(1, 3, 4, 6), None)
    assert spread_winners(empty, Seen(tokens, empty.classes, 6), config, None).maps.shape[1] == 0


def test_head_in_the_segmenter(scenes, nano, trained):
    segment = nano.with_head(trained)
    pictures = [str(scenes / "photos" / f"p{i}.png") for i in range(3)]
    together = segment(pictures)
    assert [r.setting for r in together] == ["head"] * 3 and together[0].names == ("odd", "even")
    assert together[0].labels.shape == (64, 96) and together[1].labels.shape == (64, 64)
    alone = segment(pictures[2])
    assert (alone.labels != together[2].labels).mean() < 0.01
    assert 0 <= alone.confidence.min() <= alone.confidence.max() <= 1
    unspread = segment.variant(head_affinity=0.0)(pictures)
    assert any((a.labels != b.labels).any() for a, b in zip(together, unspread, strict=True))
    limited = segment(pictures[0], tags=["even"])
    assert set(np.unique(limited.labels)) <= {0, 2}
    turned = segment(pictures[0], classes="even; odd")
    swap = np.array([0, 2, 1])
    assert turned.names == ("even", "odd") and (swap[turned.labels] != together[0].labels).mean() < 0.01
    assert segment.variant(refine="guided").head is segment.head and segment.with_head(None).head is None
    with pytest.raises(ValueError, match="was not trained on that"):
        segment(pictures[0], classes="cat")
    with pytest.raises(ValueError, match="reads no words"):
        segment(pictures[0], background=["sky"])
    with pytest.raises(ValueError, match="takes no supports"):
        segment(pictures[0], supports=[Support(pictures[1], scenes / "masks" / "masks" / "p1.png", "odd")])


@pytest.mark.parametrize("refine", ["none", "guided"])
def test_a_head_where_there_is_no_background(scenes, nano, trained, refine):
    """As ``eval`` asks on data sets without background: the best class everywhere, also a single one."""
    segment = nano.with_head(trained).variant(refine=refine, keep_maps=True)
    filled = segment.variant(background_rule="constant", background_threshold=0.0)
    pictures = [str(scenes / "photos" / f"p{i}.png") for i in range(3)]
    for before, after in zip(segment(pictures), filled(pictures), strict=True):
        assert (before.labels == 0).any() and not (after.labels == 0).any()
    assert (filled(pictures[1], tags=["even"]).labels == 2).all()


def test_a_head_looks_again_at_other_sizes_and_the_mirror_image(scenes, nano, trained):
    bare = nano.with_head(trained).variant(affinity=False, keep_maps=True)
    pictures = [Image.open(scenes / "photos" / f"p{i}.png") for i in (0, 2)]
    turned = [ImageOps.mirror(picture) for picture in pictures]
    both = bare.variant(looks={"flip": True})
    for one, other in zip(both(pictures), both(turned), strict=True):
        assert np.allclose(one.extras["maps"], other.extras["maps"][..., ::-1], atol=1e-4)
    one, other = bare(pictures[0]), bare(turned[0])
    assert not np.allclose(one.extras["maps"], other.extras["maps"][..., ::-1], atol=1e-3)
    sized = bare.variant(looks={"scales": (0.75, 1.0, 1.5), "flip": True})(pictures[0])
    maps, plain = sized.extras["maps"], one.extras["maps"]
    assert sized.labels.shape == (64, 96) and np.isfinite(maps).all() and not np.allclose(maps, plain)
    assert np.array_equal(bare.variant(looks=[1.0])(pictures[0]).extras["maps"], plain)


def test_a_head_takes_smaller_batches_where_memory_runs_out(scenes, nano, trained, monkeypatch):
    pictures = [Image.open(path) for path in sorted((scenes / "photos").glob("*.png"))]
    kind = type(nano.backbone)
    want, sizes, encode = nano.with_head(trained)(pictures), [], kind.encode

    def small(self, pixels, **more):
        sizes.append(len(pixels))
        if len(pixels) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return encode(self, pixels, **more)

    monkeypatch.setattr(kind, "encode", small)  # copies of the backbone share it
    got = nano.with_head(trained)(pictures)
    assert max(sizes) > 1 and sizes.count(1) == len(pictures)
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(want, got, strict=True))


def test_head_of_other_weights_is_refused(trained, tiny_backbone, tmp_path):
    with pytest.raises(ValueError, match="trained on 'nano'"):
        Segmenter(backbone=tiny_backbone, head=trained)
    with pytest.raises(FileNotFoundError, match="clipseg-ws train"):
        load_head(tmp_path / "none.safetensors")
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(ValueError, match="damaged"):
        load_head(tmp_path / "junk.safetensors")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="is no head"):
        load_head(tmp_path / "other.safetensors")
    module, card = load_head(trained)
    from dataclasses import replace

    with pytest.raises(ValueError, match="wrong number of classes"):
        save_head(tmp_path / "x.safetensors", module, replace(card, classes=("one",)))
