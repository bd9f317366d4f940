"""Distances to seeds along paths that avoid changes of colour, and in colour."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from clipseg_ws.refine.geodesic import colour_distances, geodesic_distances, lab


def test_on_plain_ground_distance_is_length():
    seed = torch.full((20, 30), -1)
    seed[10, 5] = 1
    found = geodesic_distances(seed, torch.full((3, 20, 30), 0.5), 3, base=0.3)
    assert found.shape == (3, 20, 30) and torch.isinf(found[[0, 2]]).all()
    assert found[1, 10, 5] == 0
    assert found[1, 10, 25] == pytest.approx(0.3 * 20 / 30, rel=1e-4)  # straight
    assert found[1, 19, 14] == pytest.approx(0.3 * 9 * 2**0.5 / 30, rel=1e-4)  # along the diagonal


def test_the_way_round_an_obstacle_is_cheaper_than_through_it():
    image = torch.zeros(3, 24, 32)
    image[:, :18, 16] = 1  # a wall with a gap below
    seed = torch.full((24, 32), -1)
    seed[4, 8] = 0
    found = geodesic_distances(seed, image, 1, smooth=0, base=0.5)[0]
    around = (14 + 6 * 2**0.5 + 2 + (14 - 8) * 0) * 0.5 / 32  # at least down to the gap and up again
    assert found[4, 24] > around > found[4, 8 + 7]
    open_ground = geodesic_distances(seed, torch.zeros(3, 24, 32), 1, smooth=0, base=0.5)[0]
    assert found[4, 24] > 1.5 * open_ground[4, 24] and found[4, 15] == pytest.approx(float(open_ground[4, 15]))


def test_a_smaller_working_picture_changes_little():
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 6, generator=generator), size=(80, 120))[0]
    seed = torch.full((80, 120), -1)
    seed[10, 10], seed[70, 100] = 0, 1
    fine, coarse = (geodesic_distances(seed, image, 2, max_side=side).argmin(0) for side in (120, 60))
    assert (fine != coarse).float().mean() < 0.1
    assert geodesic_distances(seed, (image * 255).byte(), 2, max_side=60).argmin(0).ne(coarse).float().mean() < 0.02


def test_colours_against_scikit_image():
    convert = pytest.importorskip("skimage.color").rgb2lab
    colours = np.random.default_rng(0).random((50, 3))
    assert np.abs(lab(colours) - convert(colours)).max() < 0.05


def test_colour_distance():
    image = torch.zeros(3, 6, 10)
    image[0, :, 5:] = 1  # black and red
    seed = torch.full((6, 10), -1)
    seed[2, 1:4], seed[3, 8] = 2, 0
    found = colour_distances(seed, image, 3)
    assert torch.isinf(found[1]).all()
    red = np.linalg.norm(lab(np.array([[1.0, 0, 0]])) - lab(np.zeros((1, 3))))
    assert found[2, :, :4].abs().max() < 1e-3 and found[2, 0, 9] == pytest.approx(red, rel=1e-4)
    assert found[0, :, 6:].abs().max() < 1e-3 and found[0, 5, 0] == pytest.approx(red, rel=1e-4)
