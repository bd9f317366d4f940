"""The guided filter against a plain loop over windows that solves each least-squares problem with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipseg_ws.refine.guided import _resize, box_mean, guided_filter


def slow_guided(scores: np.ndarray, image: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """He et al., equations (19) to (21), window by window; scores [H, W], image [3, H, W], all float64."""
    height, width = scores.shape
    slopes, offsets = np.zeros((height, width, 3)), np.zeros((height, width))

    def window(y: int, x: int) -> tuple[slice, slice]:
        return slice(max(0, y - radius), y + radius + 1), slice(max(0, x - radius), x + radius + 1)

    for y in range(height):
        for x in range(width):
            rows, columns = window(y, x)
            colours = image[:, rows, columns].reshape(3, -1)
            values = scores[rows, columns].reshape(-1)
            covariance = np.cov(colours, bias=True) + epsilon * np.eye(3)
            crossed = (colours * values).mean(1) - colours.mean(1) * values.mean()
            slopes[y, x] = np.linalg.solve(covariance, crossed)
            offsets[y, x] = values.mean() - slopes[y, x] @ colours.mean(1)
    result = np.zeros_like(scores)
    for y in range(height):
        for x in range(width):
            where = window(y, x)
            result[y, x] = slopes[where].reshape(-1, 3).mean(0) @ image[:, y, x] + offsets[where].mean()
    return result


def drawn(batch: int = 2, classes: int = 3, height: int = 13, width: int = 19):
    generator = torch.Generator().manual_seed(1)
    scores = torch.rand(batch, classes, height, width, generator=generator, dtype=torch.float64)
    scores[:, 1] = 0  # an absent class
    return scores, torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("radius", "epsilon"), [(1, 1e-2), (3, 1e-4), (20, 1e-3)])
def test_against_a_loop_over_windows(radius, epsilon):
    scores, image = drawn()
    found = guided_filter(scores, image, radius=radius, epsilon=epsilon)
    for b in range(2):
        for c in range(3):
            values = scores[b, c].numpy()
            expected = slow_guided(values, image[b].numpy(), radius, epsilon).clip(values.min(), values.max())
            np.testing.assert_allclose(found[b, c].numpy(), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("radius", [1, 4, 30])
def test_box_mean_clips_windows_at_the_border(radius):
    maps = drawn()[0]
    found = box_mean(maps, radius)
    for y in range(maps.shape[-2]):
        for x in range(maps.shape[-1]):
            window = maps[..., max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            torch.testing.assert_close(found[..., y, x], window.mean((-2, -1)))


def test_float32_is_precise_on_a_large_picture():
    """Running sums lose digits with size: still closer to float64 than a grey level's tenth on 900 x 1300."""
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(1, 3, 900, 1300, generator=generator) * 0.1 + 0.8
    scores = (torch.rand(1, 1, 900, 1300, generator=generator) > 0.5).float()
    exact = guided_filter(scores.double(), image.double(), epsilon=1e-4)
    assert (guided_filter(scores, image, epsilon=1e-4).double() - exact).abs().max() < 4e-4


def test_edges_move_to_the_picture():
    """A mask three pixels off the picture's edge comes back to it."""
    image = torch.zeros(1, 3, 24, 40)
    image[..., 20:] = 0.8
    scores = torch.zeros(1, 1, 24, 40)
    scores[..., 17:] = 1.0
    refined = guided_filter(scores, image, radius=8, epsilon=1e-4)
    assert (refined[..., 20:] > 0.5).all() and (refined[..., :20] < 0.5).all()


def test_a_flat_picture_gives_the_mean_of_means():
    scores, _ = drawn()
    refined = guided_filter(scores, torch.full((2, 3, 13, 19), 0.3).double(), radius=2)
    torch.testing.assert_close(refined, box_mean(box_mean(scores, 2), 2))


def test_bytes_batch_dtype_range_and_arguments():
    scores, image = drawn()
    pixels = (image * 255).round().to(torch.uint8)
    kept = scores.clone(), pixels.clone()
    together = guided_filter(scores, pixels, radius=3, iterations=2)
    alone = torch.cat([guided_filter(scores[i : i + 1], pixels[i : i + 1], radius=3, iterations=2) for i in (0, 1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(together, guided_filter(scores, pixels.double() / 255, radius=3, iterations=2))
    assert torch.equal(scores, kept[0]) and torch.equal(pixels, kept[1])
    assert (together[:, 1] == 0).all()
    low, high = scores.amin((-2, -1), keepdim=True), scores.amax((-2, -1), keepdim=True)
    assert ((together >= low) & (together <= high)).all()
    assert guided_filter(scores.bfloat16(), pixels).dtype == torch.bfloat16


def test_subsampled_is_close_on_smooth_content():
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 96), indexing="ij")
    image = torch.stack([x, y, 1 - x])[None].double()
    scores = (0.2 + 0.6 * x * y)[None, None].double()
    full, fast = guided_filter(scores, image, radius=8), guided_filter(scores, image, radius=8, subsample=4)
    assert (full - fast).abs().max() < 0.02
    assert guided_filter(scores[..., :3, :5], image[..., :3, :5], subsample=8).shape == (1, 1, 3, 5)


@pytest.mark.parametrize("channels", [1, 3, 9])
def test_maps_shrink_by_means_and_grow_bilinearly(channels):
    """Whatever the number of channels: halved, values are the tent's weighted means; grown, no mean at all."""
    maps = torch.rand(2, channels, 8, 12, generator=torch.Generator().manual_seed(5)).double()
    small = _resize(maps, (4, 6))
    tent = torch.tensor([1, 3, 3, 1]).double() / 8
    for y in (1, 2):
        for x in (1, 2, 3, 4):
            window = maps[..., 2 * y - 1 : 2 * y + 3, 2 * x - 1 : 2 * x + 3]
            torch.testing.assert_close(small[..., y, x], (window * tent[:, None] * tent).sum((-2, -1)))
    grown = _resize(maps, (16, 24))
    torch.testing.assert_close(grown[..., 3, 3], (maps[..., 1:3, 1:3] * GROWN[:, None] * GROWN).sum((-2, -1)))
    assert _resize(maps, (8, 12)) is maps


GROWN = torch.tensor([0.75, 0.25]).double()


def test_refused_inputs():
    scores, image = drawn()
    with pytest.raises(ValueError, match="differ in size"):
        guided_filter(scores[..., :-1], image)
    for options in ({"radius": 0}, {"epsilon": 0.0}, {"subsample": 0}):
        with pytest.raises(ValueError, match="allowed: >= 1, >= 1 and > 0"):
            guided_filter(scores, image, **options)
