"""Dense CRF with the weights CLIP-ES uses (extra ``[crf]``, package pydensecrf2).

Papers: Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS
2011; Lin et al., "CLIP Is Also an Efficient Segmenter" (CLIP-ES), CVPR 2023.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clipseg_ws.pictures.images import image_bytes
from clipseg_ws.refine.neighbours import check_inputs

MEAN_BGR = (104.008, 116.669, 122.675)
SMALLEST_PROBABILITY = 1e-5


def dense_crf(
    scores: Tensor,
    image: Tensor,
    *,
    iterations: int = 10,
    gaussian: tuple[float, float] = (1.0, 3.0),
    bilateral: tuple[float, float, float] = (67.0, 3.0, 4.0),
    reference_image: bool = False,
    half_unary: bool = False,
) -> Tensor:
    """Mean-field inference on each picture: near pixels and pixels of like colour are pulled to the same label.

    Args:
        scores: [B, C, H, W] floating point in [0, 1], the background among the channels; they need not sum to one.
        image: [B, 3, H, W] of the same size: uint8, or floating point RGB in [0, 1] (rounded to bytes).
        iterations: mean-field steps; 0 normalises the scores.
        gaussian: (width in pixels, weight) of the kernel that knows distance only.
        bilateral: (width in pixels, width in grey levels, weight) of the kernel that knows distance and colour.
        reference_image: BGR minus the mean, negative values wrapped around, as the published code gives to the CRF.
        half_unary: take the logarithm in float16, as the published code does.

    Returns:
        [B, C, H, W] probabilities that sum to one over the channels, in the dtype of ``scores``, on its device.

    Raises:
        ImportError: pydensecrf2 is not installed.
        ValueError: shapes that do not fit, negative iterations, widths and weights of another number.
    """
    library = _library()
    check_inputs(scores, image, iterations, same_size=True)
    if len(gaussian) != 2 or len(bilateral) != 3:
        raise ValueError(f"{gaussian=}, {bilateral=}; two and three numbers are needed, e.g. (1, 3) and (67, 3, 4)")
    energy = unary(scores, half=half_unary).cpu().numpy()
    picture = image_bytes(image).permute(0, 2, 3, 1).cpu().numpy()  # [B, H, W, 3]
    probabilities = np.empty_like(energy)
    for index, (costs, colours) in enumerate(zip(energy, picture, strict=True)):
        colours = wrapped_bgr(colours) if reference_image else np.ascontiguousarray(colours)
        found = _model(library, costs, colours, gaussian, bilateral).inference(iterations)
        probabilities[index] = np.asarray(found).reshape(costs.shape)
    return torch.from_numpy(probabilities).to(scores.device, scores.dtype)


def _model(
    library: ModuleType,
    costs: np.ndarray,
    colours: np.ndarray,
    gaussian: tuple[float, float],
    bilateral: tuple[float, float, float],
) -> Any:
    """The library's CRF of one picture: costs [C, H, W] float32, colours [H, W, 3] uint8."""
    model = library.DenseCRF2D(costs.shape[2], costs.shape[1], len(costs))
    model.setUnaryEnergy(np.ascontiguousarray(costs.reshape(len(costs), -1)))
    model.addPairwiseGaussian(sxy=gaussian[0], compat=gaussian[1])
    model.addPairwiseBilateral(sxy=bilateral[0], srgb=bilateral[1], rgbim=colours, compat=bilateral[2])
    return model


def unary(scores: Tensor, *, half: bool = False) -> Tensor:
    """-log of the scores clipped to [1e-5, 1], float32 [B, C, H, W]; ``half`` computes it in float16."""
    dtype = torch.float16 if half else torch.float32
    return scores.to(dtype).clamp(SMALLEST_PROBABILITY, 1).log().neg().float()


def wrapped_bgr(picture: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 RGB -> BGR minus the mean, cut towards zero, modulo 256, as uint8: CLIP-ES's CRF input."""
    shifted = picture[..., ::-1].astype(np.float32) - np.asarray(MEAN_BGR, dtype=np.float32)
    return (np.trunc(shifted).astype(np.int32) % 256).astype(np.uint8)


def _library() -> ModuleType:
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise ImportError(
            'the dense CRF needs the package pydensecrf2 (and a C++ compiler): pip install "clipseg_ws[crf]"; '
            "refiners that need nothing: pamr, guided"
        ) from error
    library: ModuleType = densecrf
    return library
