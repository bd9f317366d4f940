"""Suppression keeps distributions, takes from the right class, and knows a class's own words."""

from __future__ import annotations

import torch

from clipseg_ws.activations.suppress import fold, known_level, own_words, rival_probability, suppress


def test_suppressed_pixels_go_to_the_background():
    probabilities = torch.tensor([0.1, 0.6, 0.3]).view(1, 3, 1, 1).expand(2, 3, 2, 3)
    rivals = torch.zeros(2, 2, 2, 3)
    rivals[1, 0, 0, 0] = 1.0
    got = suppress(probabilities, rivals)
    assert torch.allclose(got.sum(1), torch.ones(2, 2, 3))
    assert torch.allclose(got[0], probabilities[0])
    assert torch.allclose(got[1, :, 0, 0], torch.tensor([0.7, 0.0, 0.3]))
    assert torch.allclose(suppress(probabilities, torch.full((2, 1, 2, 3), 0.5))[:, 1:], probabilities[:, 1:] / 2)


def test_rival_probability_leaves_the_own_words_out():
    logits = torch.log(torch.tensor([0.5, 0.3, 0.2])).view(1, 3, 1, 1).expand(2, 3, 2, 2)
    own = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    nothing = torch.full((2,), -1e9)
    got = rival_probability(logits, own, nothing)
    assert torch.allclose(got[1, :, 0, 1], torch.tensor([0.5, 0.5]))
    assert torch.allclose(rival_probability(logits, torch.ones(1, 3), nothing[:1]), torch.zeros(2, 1, 2, 2))
    # a level as high as all words together halves what rivals get, another class's level does not matter
    halved = rival_probability(logits, own, torch.tensor([0.0, -1e9]))
    assert torch.allclose(halved[0, :, 1, 0], torch.tensor([0.25, 0.5]))


def test_known_level_is_the_weighted_mean_of_the_best():
    logits = torch.tensor([[1.0, 3.0], [5.0, 0.0], [9.0, 9.0]])
    assert known_level(logits, torch.tensor([1.0, 3.0, 0.0])).item() == (3 + 15) / 4


def test_own_words():
    profiles = torch.tensor([[0.8, 0.19, 0.01], [0.33, 0.33, 0.34]])
    assert own_words(profiles).tolist() == [[1, 1, 0], [1, 1, 1]]
    assert own_words(profiles, share=0.5).tolist() == [[1, 0, 0], [1, 1, 1]]


def test_fold_keeps_the_sums_and_the_order():
    probabilities = torch.rand(2, 4, 3, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    got = fold(probabilities, [2, 0])
    assert torch.allclose(got.sum(1), torch.ones(2, 3, 5))
    assert torch.equal(got[:, 1], probabilities[:, 3]) and torch.equal(got[:, 2], probabilities[:, 1])
    assert torch.allclose(got[:, 0], probabilities[:, 0] + probabilities[:, 2])
    assert torch.equal(fold(probabilities, [0, 1, 2]), probabilities)
