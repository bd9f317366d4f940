"""What the refiners do where nothing is set, and at the edges of their rules."""

from __future__ import annotations

import pytest
import torch

from clipseg_ws.refine.crf import dense_crf
from clipseg_ws.refine.geodesic import geodesic_distances
from clipseg_ws.refine.guided import guided_filter


def test_a_step_over_plain_ground_costs_a_twentieth_of_its_length():
    seed = torch.full((20, 30), -1)
    seed[10, 5] = 0
    found = geodesic_distances(seed, torch.full((3, 20, 30), 0.5), 1)
    assert found[0, 10, 25] == pytest.approx(0.05 * 20 / 30, rel=1e-4)


@pytest.mark.parametrize(("height", "width"), [(7, 1000), (1000, 7), (300, 500)])
def test_seeds_keep_their_place_in_a_smaller_picture(height, width):
    """Rows and columns shrink each by its own factor."""
    seed = torch.full((height, width), -1)
    y, x = height // 2, width // 3
    seed[y, x] = 0
    found = geodesic_distances(seed, torch.full((3, height, width), 0.5), 1)[0]
    lowest = (found == found.min()).nonzero().float().mean(0)
    assert abs(float(lowest[0]) - y) <= 4 and abs(float(lowest[1]) - x) <= 4
    longer = max(height, width)
    far = found[y, -1] if width == longer else found[-1, x]
    steps = (width - x if width == longer else height - y) / longer
    assert far == pytest.approx(0.05 * steps, rel=0.05)


def test_the_guided_filter_stays_between_the_scores():
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 24, 24, generator=generator)
    scores = (image[:, :1] > 0.7).float()
    once = guided_filter(scores, image, radius=3, epsilon=1e-6)
    assert once.min() >= 0 and once.max() <= 1 and ((once == 0).any() or (once == 1).any())
    assert guided_filter(scores, image, radius=3, epsilon=1e-6, iterations=4).amax() <= 1


def test_the_crf_has_the_weights_of_clip_es():
    pytest.importorskip("pydensecrf")
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(1, 3, 20, 24, generator=generator)
    image = torch.randint(0, 60, (1, 3, 20, 24), generator=generator, dtype=torch.uint8)
    set_ = dense_crf(scores, image, iterations=10, gaussian=(1, 3), bilateral=(67, 3, 4))
    assert torch.equal(dense_crf(scores, image), set_)
    assert not torch.equal(dense_crf(scores, image, bilateral=(67, 3, 10)), set_)
