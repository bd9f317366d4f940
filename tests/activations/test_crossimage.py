"""Cross-image agreement: a prototype of the other pictures against a plain loop, and what it does to a map."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from clipseg_ws.activations import crossimage
from clipseg_ws.activations.crossimage import cross_image


def slow(maps, features, classes, strength):
    """Class by class, picture by picture, with lists."""
    out = maps.clone()
    for b, members in enumerate(classes):
        for k, c in enumerate(members):
            prototypes = []
            for o, theirs in enumerate(classes):
                if o == b or c not in theirs:
                    continue
                m = maps[o, theirs.index(c)].flatten()
                total = sum(float(v) * features[o, n] for n, v in enumerate(m) if v > 0.5 * m.max())
                prototypes.append(F.normalize(total, dim=0))
            if prototypes:
                like = torch.stack([
                    torch.stack([torch.dot(f, p).clamp_min(0) for p in prototypes]).mean() for f in features[b]
                ])  # fmt: skip
                like = (like - like.min()) / (like.max() - like.min())
                out[b, k] = (1 - strength) * maps[b, k] + strength * like.view_as(maps[b, k])
            out[b, k] /= out[b, k].max()
    return out


def test_against_the_loop():
    torch.manual_seed(0)
    maps, features = torch.rand(3, 2, 3, 4), F.normalize(torch.randn(3, 12, 8), dim=-1)
    classes = [[0, 4], [4], [0, 2]]
    maps[1, 1] = 0  # padding
    got = cross_image(maps, features, torch.tensor([[0, 4], [4, -1], [0, 2]]), 0.3)
    want = slow(maps, features, classes, 0.3)
    assert torch.allclose(got, want, atol=1e-5)
    assert not got[1, 1].any()
    assert torch.allclose(got[2, 1], maps[2, 1] / maps[2, 1].max())  # class 2 is in one picture only


def test_pictures_by_parts_are_the_same(monkeypatch):
    torch.manual_seed(0)
    maps, features = torch.rand(3, 2, 3, 4), F.normalize(torch.randn(3, 12, 8), dim=-1)
    classes = torch.tensor([[0, 4], [4, 0], [0, 2]])
    whole = cross_image(maps, features, classes, 0.3)
    monkeypatch.setattr(crossimage, "CELLS", 1)
    assert torch.allclose(cross_image(maps, features, classes, 0.3), whole, atol=1e-6)


def test_a_part_that_another_picture_knows_is_added():
    """Two pictures of one thing of two parts; each map holds one part, and learns of the other from the other."""
    head, body, ground = F.one_hot(torch.tensor([0, 1, 2]), 3).float()
    patches = torch.stack([torch.stack([head, body, ground, ground])] * 2)
    maps = torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]], [[[0.0, 1.0, 0.0, 0.0]]]])
    out = cross_image(maps, patches, torch.zeros(2, 1, dtype=torch.int64), 0.4)
    assert out[0, 0, 0, 1] > 0.5 > out[0, 0, 0, 2:].max() and out[1, 0, 0, 0] > 0.5


def test_alone_off_and_wrong():
    maps, features = torch.rand(1, 2, 3, 4), F.normalize(torch.randn(1, 12, 8), dim=-1)
    assert torch.allclose(
        cross_image(maps, features, torch.tensor([[0, 1]]), 0.5), maps / maps.amax((-2, -1), keepdim=True)
    )
    with pytest.raises(ValueError, match="strength=2"):
        cross_image(maps, features, torch.tensor([[0, 1]]), 2)
