"""Combining two opinions: agreement, classes that one of them cannot know, and the temperature."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.activations.combine import combine, fit_temperature


def pixels(*rows: tuple[float, ...]) -> torch.Tensor:
    """[2, C, 1, n] probabilities, the same for both images."""
    return torch.tensor(rows).t()[None, :, None].repeat(2, 1, 1, 1)


def test_geometric_mean_by_hand():
    a, b = pixels((0.5, 0.3, 0.2)), pixels((0.2, 0.2, 0.6))
    got = combine(a, b, [0, 1], [0, 1], 2)
    want = torch.tensor([(0.5 * 0.2) ** 0.5, (0.3 * 0.2) ** 0.5, (0.2 * 0.6) ** 0.5])
    assert torch.allclose(got[1, :, 0, 0], want / want.sum(), atol=1e-5)
    assert torch.allclose(combine(a, b, [0, 1], [0, 1], 2, weight=0.0), a, atol=1e-5)
    assert torch.allclose(
        combine(a, b, [0, 1], [1, 0], 2, weight=1.0)[0, :, 0, 0], torch.tensor([0.2, 0.6, 0.2]), atol=1e-5
    )


def test_a_class_without_an_example_is_not_spoken_against():
    examples = pixels((0.9, 0.1), (0.9, 0.1))  # knows class 0 only; both pixels look like neither of its examples
    names = pixels((0.1, 0.1, 0.8), (0.8, 0.1, 0.1))  # knows both; the first pixel is class 1
    got = combine(examples, names, [0], [0, 1], 2)
    assert got.shape == (2, 3, 1, 2) and torch.allclose(got.sum(1), torch.ones(2, 1, 2), atol=1e-5)
    assert got[0, :, 0, 0].argmax() == 2 and got[0, :, 0, 1].argmax() == 0


def test_a_class_without_a_name():
    examples = pixels((0.1, 0.9))  # knows class 1, which has no name
    names = pixels((0.9, 0.1))  # knows class 0
    got = combine(examples, names, [1], [0], 2)
    assert got[0, :, 0, 0].argmax() == 2


def test_order_of_the_two_does_not_matter():
    g = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 3, 2, 5, generator=g).softmax(1), torch.rand(2, 2, 2, 5, generator=g).softmax(1)
    one = combine(a, b, [0, 2], [1], 3, weight=0.3)
    two = combine(b, a, [1], [0, 2], 3, weight=0.7)
    assert torch.allclose(one, two, atol=1e-6)


def test_certain_zeros_stay_finite():
    assert torch.isfinite(combine(pixels((1.0, 0.0)), pixels((0.0, 1.0)), [0], [0], 1)).all()


def test_refusals():
    with pytest.raises(ValueError, match=r"\[2\] have neither"):
        combine(pixels((0.5, 0.5)), pixels((0.5, 0.5)), [0], [1], 3)
    with pytest.raises(ValueError, match="weight=2"):
        combine(pixels((0.5, 0.5)), pixels((0.5, 0.5)), [0], [0], 1, weight=2)


@pytest.mark.parametrize("truth", [0.5, 2.0, 8.0])
def test_temperature_is_recovered(truth):
    g = torch.Generator().manual_seed(1)
    logits = torch.randn(20000, 4, generator=g)
    own = torch.zeros(20000, dtype=torch.long)
    p = (truth * logits).softmax(1)[:, 0]
    p = p / (p + (1 - p) * p.mean() / (1 - p.mean()))  # where inside and outside count alike
    found = fit_temperature(logits, own, (torch.rand(20000, generator=g) < p).float())
    assert truth / 2 <= found <= truth * 2


def test_temperature_without_evidence():
    assert fit_temperature(torch.randn(5, 3), torch.zeros(5, dtype=torch.long), torch.ones(5)) == 1.0
