"""Channel gates: what both activate counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from clipseg_ws.activations.crossref import channel_gates, gated_cosine
from clipseg_ws.activations.prototypes import cosine


def test_gates_need_both_sides():
    prototype = torch.tensor([[4.0, 4.0, 0.0, 0.0]])
    query = torch.tensor([4.0, 0.0, 4.0, 0.0]).view(1, 4, 1, 1).expand(1, 4, 3, 2)
    gates = channel_gates(prototype, query)[0, 0]
    assert gates[0] > gates[1] and gates[0] > gates[2] and gates[1] > gates[3] and gates[2] > gates[3]
    assert ((gates > 0) & (gates < 1)).all()
    assert torch.allclose(channel_gates(3 * prototype + 7, query - 2), channel_gates(prototype, query), atol=1e-4)


def test_gated_cosine_equals_gating_first():
    g = torch.Generator().manual_seed(0)
    features, prototypes = torch.randn(2, 6, 3, 4, generator=g), torch.randn(5, 6, generator=g)
    gates = torch.rand(2, 5, 6, generator=g)
    got = gated_cosine(features, prototypes, gates)
    for b in range(2):
        for k in range(5):
            want = cosine(features[b : b + 1] * gates[b, k][:, None, None], prototypes[k : k + 1] * gates[b, k])
            assert torch.allclose(got[b, k], want[0, 0], atol=1e-5)
    assert torch.allclose(
        gated_cosine(features, prototypes, torch.ones(2, 5, 6)), cosine(features, prototypes), atol=1e-5
    )
    assert (
        F.cosine_similarity(got.flatten(), cosine(features, prototypes).flatten(), 0) < 0.999
    )  # the gates do something
