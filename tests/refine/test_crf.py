"""The dense CRF against CLIP-ES's recordings; the package is an extra, so its absence is tested too."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from conftest import golden_cases

from clipseg_ws.refine.crf import dense_crf, unary, wrapped_bgr


@pytest.fixture
def crf_library():
    return pytest.importorskip("pydensecrf.densecrf", reason="extra [crf] is not installed")


def with_background(cams: torch.Tensor) -> torch.Tensor:
    """[K, H, W] -> [1, 1+K, H, W]; background 1 - max in the stored dtype."""
    return torch.cat([1 - cams.amax(0, keepdim=True), cams])[None]


@pytest.mark.parametrize("case", golden_cases("crf"))
@pytest.mark.parametrize("picture", ["refimage", "rgb"])
@pytest.mark.parametrize("precision", ["f16", "f32"])
def test_matches_the_reference(case, picture, precision, golden, golden_manifest, crf_library):
    data, entry = golden(case), golden_manifest[case]
    parameters, tensors = entry["parameters"], entry["tensors"]
    dtype = torch.float16 if precision == "f16" else torch.float32
    scores = with_background(data["cams"].to(dtype)).float()
    found = dense_crf(
        scores,
        data["image_rgb"].permute(2, 0, 1)[None],
        iterations=parameters["iterations"],
        gaussian=(parameters["gaussian"]["sxy"], parameters["gaussian"]["compat"]),
        bilateral=tuple(parameters["bilateral"][key] for key in ("sxy", "srgb", "compat")),
        reference_image=picture == "refimage",
        half_unary=precision == "f16",
    )[0]
    values = torch.cat([torch.zeros(1, dtype=torch.int32), data["keys"] + 1])
    labels = values[found.argmax(0)]
    pseudo = torch.where(found.amax(0) < parameters["confidence"], 255, labels)
    name = f"{picture}_{precision}"
    for kind, result in (("label", labels), ("pseudo", pseudo)):
        rule = tensors[f"{kind}_{name}"]["tolerance"]
        assert (result == data[f"{kind}_{name}"]).float().mean() >= rule["value"]
    if f"prob_{name}" in data:
        rule = tensors[f"prob_{name}"]["tolerance"]
        close = ((found - data[f"prob_{name}"]).abs() <= rule["value"]).all(0)
        assert close.float().mean() >= rule["fraction"]


@pytest.mark.parametrize("case", golden_cases("crf"))
def test_unary_and_the_wrapped_picture(case, golden, golden_manifest):
    data, tensors = golden(case), golden_manifest[case]["tensors"]
    found = unary(with_background(data["cams"].float()))[0]
    tolerance = tensors["unary_f32"]["tolerance"]["value"]
    torch.testing.assert_close(found, data["unary_f32"], rtol=0, atol=tolerance)
    wrapped = wrapped_bgr(data["image_rgb"].numpy())
    np.testing.assert_array_equal(wrapped, data["image_bgr_minus_mean_wrapped"].numpy())


def test_wrapped_by_hand():
    """R 0 - 122.675 -> -122 -> 134; G 200 - 116.669 -> 83; B 104 - 104.008 -> 0 (cut towards zero)."""
    assert wrapped_bgr(np.array([[[0, 200, 104]]], dtype=np.uint8)).tolist() == [[[0, 83, 134]]]


def scene(height: int = 24, width: int = 36):
    """Two pictures, each with a red block on blue and noisy scores for (background, absent class, block)."""
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(2, 3, height, width, dtype=torch.uint8)
    image[:, 2] = 220
    truth = torch.zeros(2, height, width, dtype=torch.bool)
    truth[0, 5:15, 8:30] = True
    truth[1, 10:22, 2:12] = True
    image[:, 0][truth], image[:, 2][truth] = 230, 10
    block = (truth * 0.4 + 0.3 + 0.5 * (torch.rand(truth.shape, generator=generator) - 0.5)).clamp(0, 1)
    return torch.stack([1 - block, torch.zeros_like(block), block], 1), image, truth


def test_cleans_noise_batch_by_batch_and_keeps_arguments(crf_library):
    scores, image, truth = scene()
    kept = scores.clone(), image.clone()
    before = ((scores.argmax(1) == 2) == truth).float().mean()
    refined = dense_crf(scores, image)
    assert before < 0.95 and ((refined.argmax(1) == 2) == truth).float().mean() > 0.99
    torch.testing.assert_close(refined.sum(1), torch.ones(2, 24, 36))
    for i in range(2):
        torch.testing.assert_close(dense_crf(scores[i : i + 1], image[i : i + 1])[0], refined[i], rtol=0, atol=0)
    assert torch.equal(scores, kept[0]) and torch.equal(image, kept[1])
    same = dense_crf(scores.bfloat16().double(), image.float() / 255)
    assert same.dtype == torch.float64
    assert dense_crf(scores.bfloat16(), image).dtype == torch.bfloat16


def test_no_iterations_normalise(crf_library):
    scores, image, _ = scene()
    expected = scores.clamp(1e-5, 1)
    torch.testing.assert_close(dense_crf(scores, image, iterations=0), expected / expected.sum(1, keepdim=True))


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    scores, image, _ = scene()
    with pytest.raises(ImportError, match=r'pip install "clipseg_ws\[crf\]"'):
        dense_crf(scores, image)


def test_refused_inputs(crf_library):
    scores, image, _ = scene()
    with pytest.raises(ValueError, match="differ in size"):
        dense_crf(scores, image[..., 1:])
    with pytest.raises(ValueError, match="two and three numbers"):
        dense_crf(scores, image, gaussian=(1.0,))
