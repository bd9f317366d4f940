"""Whatever a user holds becomes an RGB picture, and its pixels are those of the golden recordings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import golden_cases
from PIL import Image

from clipseg_ws.pictures.images import image_bytes, to_image, to_pixels
from clipseg_ws.pictures.reading import ImageError
from clipseg_ws.pictures.sizes import resize_maps, target_size

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)  # H=6, W=9


def test_to_image():
    assert np.array_equal(np.asarray(to_image(PICTURE)), PICTURE)
    assert np.array_equal(np.asarray(to_image(PICTURE[:, ::-1])), PICTURE[:, ::-1])
    assert np.array_equal(np.asarray(to_image(PICTURE[..., 0]))[..., 2], PICTURE[..., 0])
    image = Image.fromarray(PICTURE)
    assert to_image(image) is not image and to_image(image).tobytes() == image.tobytes()
    for wrong, match in (
        (PICTURE / 255, "float64"),
        (PICTURE.transpose(2, 0, 1), r"\[3, 6, 9\]"),
        (np.zeros((0, 4), np.uint8), r"\[0, 4\]"),
        (torch.zeros(4, 4, 3), "permute"),
        (7, "got int"),
    ):
        with pytest.raises(ImageError, match=match):
            to_image(wrong)


@pytest.mark.parametrize("case", golden_cases("clip_es"))
def test_golden_pixels(case, golden, golden_manifest):
    entry, tensors = golden_manifest[case], golden(case)
    p = entry["parameters"]
    image = to_image(tensors["image_rgb"].numpy())
    pixels = to_pixels(image, patch_size=p["patch"], mean=p["mean"], std=p["std"])
    tolerance = entry["tensors"]["pixels"]["tolerance"]
    assert tolerance["rule"] == "max_abs"
    torch.testing.assert_close(pixels[None], tensors["pixels"], atol=tolerance["value"], rtol=0)


@pytest.mark.parametrize("case", golden_cases("slide"))
def test_golden_resize(case, golden, golden_manifest):
    entry, tensors = golden_manifest.get(case, {}), golden(case)
    if not {"logits_windows_mean", "logits_resized"} <= tensors.keys():
        pytest.skip("this case does not hold both sizes")
    resized = resize_maps(tensors["logits_windows_mean"][None], tuple(entry["parameters"]["original_size"]))
    tolerance = entry["tensors"]["logits_resized"]["tolerance"]
    torch.testing.assert_close(resized[0], tensors["logits_resized"], atol=tolerance["value"], rtol=0)


def test_wrong_sizes_and_interpolation_are_errors():
    with pytest.raises(ValueError, match="short_side=0"):
        target_size(5, 5, 16, 0)
    with pytest.raises(ValueError, match="nearest, bilinear, bicubic, lanczos"):
        to_pixels(Image.new("RGB", (4, 4)), patch_size=4, mean=(0, 0, 0), std=(1, 1, 1), interpolation="cubic")


def test_pixels_of_a_fitting_picture_are_exact():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    pixels = to_pixels(Image.fromarray(PICTURE), patch_size=3, mean=mean, std=std)
    expected = ((PICTURE / 255.0 - mean) / std).transpose(2, 0, 1)
    assert pixels.dtype == torch.float32 and pixels.shape == (3, 6, 9)
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-6)


def test_bytes_from_floats():
    assert image_bytes(torch.tensor([0.0, 0.5, 1.0, 1.0001])).tolist() == [0, 128, 255, 255]
