"""PAMR and PAR against the references' recordings and against a plain per-pixel loop."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from conftest import golden_cases

from clipseg_ws.refine.neighbours import neighbour_offsets
from clipseg_ws.refine.pamr import pamr, pamr_weights
from clipseg_ws.refine.par import par, par_weights

EIGHT = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]


def drawn(batch: int = 2, classes: int = 3, height: int = 7, width: int = 11, seed: int = 0):
    """Scores with one absent class and a picture with a flat corner; float64 so that oracles agree closely."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(batch, classes, height, width, generator=generator, dtype=torch.float64)
    scores[:, 1] = 0
    image = torch.rand(batch, 3, height, width, generator=generator, dtype=torch.float64)
    image[..., :4, :4] = 0.5
    return scores, image


def samples(plane: torch.Tensor, y: int, x: int, dilations) -> list[float]:
    """Neighbours of one pixel of [H, W] with the border repeated."""
    height, width = plane.shape
    return [
        float(plane[min(max(y + dy * d, 0), height - 1), min(max(x + dx * d, 0), width - 1)])
        for d in dilations
        for dy, dx in EIGHT
    ]


def std(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    exps = [math.exp(v - top) for v in logits]
    return [v / sum(exps) for v in exps]


def pamr_pixel(image: torch.Tensor, y: int, x: int, dilations) -> list[float]:
    logits = [0.0] * (8 * len(dilations))
    for plane in image:
        centre, near = float(plane[y, x]), samples(plane, y, x, dilations)
        spread = std(near + [centre] * len(dilations))
        logits = [a - abs(v - centre) / (1e-8 + 0.1 * spread) / 3 for a, v in zip(logits, near, strict=True)]
    return softmax(logits)


def par_pixel(image: torch.Tensor, y: int, x: int, dilations) -> list[float]:
    logits = [0.0] * (8 * len(dilations))
    for plane in image:
        centre, near = float(plane[y, x]), samples(plane, y, x, dilations)
        spread = std(near)
        logits = [a - (abs(v - centre) / (spread + 1e-8) / 0.3) ** 2 / 3 for a, v in zip(logits, near, strict=True)]
    far = [d * math.hypot(*step) for d in dilations for step in EIGHT]
    near_far = softmax([-((r / (std(far) + 1e-8) / 0.3) ** 2) for r in far])
    return [a + 0.01 * b for a, b in zip(softmax(logits), near_far, strict=True)]


def slow(scores: torch.Tensor, image: torch.Tensor, pixel_weights, dilations, iterations: int) -> torch.Tensor:
    height, width = scores.shape[-2:]
    for _ in range(iterations):
        fresh = torch.zeros_like(scores)
        for b in range(scores.shape[0]):
            for y in range(height):
                for x in range(width):
                    weights = pixel_weights(image[b], y, x, dilations)
                    for c, plane in enumerate(scores[b]):
                        near = samples(plane, y, x, dilations)
                        fresh[b, c, y, x] = sum(w * v for w, v in zip(weights, near, strict=True))
        scores = fresh
    return scores


@pytest.mark.parametrize("case", golden_cases("pamr"))
def test_pamr_matches_the_reference(case, golden, golden_manifest):
    data, parameters = golden(case), golden_manifest[case]["parameters"]
    tolerance = {name: entry["tolerance"].get("value") for name, entry in golden_manifest[case]["tensors"].items()}
    compared = 0
    for dilations in parameters["dilation_sets"]:
        tag = "d" + "_".join(map(str, dilations))
        for prefix, iterations in (("refined", parameters["iterations"]), ("refined1", 1)):
            key = f"{prefix}_{tag}"
            if key in data:
                found = pamr(data["scores"], data["image"], iterations=iterations, dilations=dilations)
                torch.testing.assert_close(found, data[key], rtol=0, atol=tolerance[key])
                compared += 1
        key = f"weights_{tag}"
        if key in data:
            found = pamr_weights(data["image"], dilations)[0]
            torch.testing.assert_close(found, data[key].float(), rtol=0, atol=tolerance[key])
            compared += 1
    assert compared == sum(key.startswith(("refined", "weights")) for key in data)


@pytest.mark.parametrize("case", golden_cases("par"))
def test_par_matches_the_reference(case, golden, golden_manifest):
    data, entry = golden(case), golden_manifest[case]
    for key, iterations in (("refined", entry["parameters"]["iterations"]), ("refined1", 1)):
        dilations = entry["parameters"]["dilations"]
        found = par(data["scores"], data["image"], iterations=iterations, dilations=dilations, normalise=False)
        torch.testing.assert_close(found, data[key], rtol=0, atol=entry["tensors"][key]["tolerance"]["value"])


@pytest.mark.parametrize("dilations", [(1,), (2, 5)])
@pytest.mark.parametrize(("refiner", "pixel_weights"), [(pamr, pamr_pixel), (partial(par, normalise=False), par_pixel)])
def test_against_a_loop_over_pixels(refiner, pixel_weights, dilations):
    scores, image = drawn()
    expected = slow(scores, image, pixel_weights, dilations, 2)
    found = refiner(scores, image, iterations=2, dilations=dilations)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_weights_have_their_sums_and_ignore_the_scaling_of_the_picture():
    _, image = drawn()
    assert torch.allclose(pamr_weights(image, (1, 3)).sum(1), torch.ones(2, 7, 11, dtype=torch.float64))
    assert torch.allclose(par_weights(image, (1, 3)).sum(1), torch.full((2, 7, 11), 1.01, dtype=torch.float64))
    stretched = image * torch.tensor([3.0, 0.5, 7.0]).view(1, 3, 1, 1).double() - 1
    torch.testing.assert_close(pamr_weights(stretched, (1, 3)), pamr_weights(image, (1, 3)), rtol=1e-5, atol=1e-6)


def test_a_flat_picture_averages_the_neighbours_plainly():
    """Hand-worked: without colour differences every neighbour has 1/8, the pixel itself nothing."""
    scores = torch.zeros(1, 1, 3, 5)
    scores[0, 0, 0, 2] = 8.0
    found = pamr(scores, torch.full((1, 3, 3, 5), 0.25), iterations=1, dilations=(1,))[0, 0]
    # the first row is repeated above the picture: its neighbours see the 8 twice, the pixel sees itself once
    expected = torch.tensor([[0, 2, 1, 2, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]], dtype=torch.float32)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("refiner", [pamr, par])
def test_batch_dtype_and_arguments(refiner):
    scores, image = drawn(height=20, width=33)
    kept = scores.clone(), image.clone()
    together = refiner(scores, image, dilations=(2, 4))
    alone = torch.cat([refiner(scores[i : i + 1], image[i : i + 1], dilations=(2, 4)) for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-14)  # vectors end elsewhere: the last bit may differ
    assert torch.equal(scores, kept[0]) and torch.equal(image, kept[1])
    assert (together[:, 1] == 0).all() and together.dtype == torch.float64
    half = refiner(scores.bfloat16(), image.float(), dilations=(2, 4))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), together, rtol=0.02, atol=0.01)


def test_pamr_stays_in_range_keeps_sums_and_resizes():
    scores, image = drawn(height=18, width=25)
    shares = scores.softmax(1)
    refined = pamr(shares, image)
    assert refined.amin() >= shares.amin() and refined.amax() <= shares.amax()
    torch.testing.assert_close(refined.sum(1), torch.ones_like(refined[:, 0]))
    resized = pamr(scores[..., ::2, ::2], image, iterations=0)
    assert resized.shape == scores.shape and torch.equal(resized[..., 0, 0], scores[..., 0, 0])  # corners aligned
    untouched = pamr(scores, image, iterations=0)
    assert torch.equal(untouched, scores) and untouched.data_ptr() != scores.data_ptr()


def test_par_grows_by_its_weights_unless_normalised():
    scores, image = torch.ones(1, 2, 9, 14), torch.rand(1, 3, 9, 14)
    torch.testing.assert_close(par(scores, image, iterations=5, dilations=(1, 2), normalise=False), scores * 1.01**5)
    torch.testing.assert_close(par(scores, image, iterations=5, dilations=(1, 2)), scores)


def test_par_shrinks_the_picture_to_the_scores():
    scores, image = drawn(height=20, width=30)
    assert par(scores[..., ::2, ::2], image, iterations=1).shape == (2, 3, 10, 15)


@pytest.mark.parametrize("refiner", [pamr, par])
def test_refused_inputs(refiner):
    scores, image = drawn()
    with pytest.raises(ValueError, match="same B"):
        refiner(scores[0], image)
    with pytest.raises(ValueError, match="same B"):
        refiner(scores[:1], image)
    with pytest.raises(ValueError, match="floating point"):
        refiner(scores.long(), image)
    with pytest.raises(ValueError, match="iterations=-1"):
        refiner(scores, image, iterations=-1)
    for dilations in ((), (0, 2)):
        with pytest.raises(ValueError, match="at least one"):
            refiner(scores, image, dilations=dilations)


def test_offsets_run_dilation_by_dilation_row_by_row():
    assert neighbour_offsets((8, 16))[:4] == [(-8, -8), (-8, 0), (-8, 8), (0, -8)]
    assert neighbour_offsets((8, 16))[8] == (-16, -16) and len(neighbour_offsets((8, 16))) == 16
