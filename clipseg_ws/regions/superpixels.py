"""A picture cut into superpixels (extra ``[superpixels]``, package scikit-image): SLIC and Felzenszwalb's graphs.

Papers: Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", TPAMI 2012; Felzenszwalb
and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clipseg_ws.pictures.images import image_bytes
from clipseg_ws.regions.region_set import RegionSet
from clipseg_ws.regions.working import working


def slic(
    image: NDArray[np.uint8], name: str = "", *, side: float = 16.0, compactness: float = 10.0, max_side: int = 1024
) -> RegionSet:
    """SLIC superpixels of a picture [H, W, 3] uint8 as regions that cover it; ``name`` is not read.

    Args:
        side: wished width in pixels. compactness: larger values give squarer ones. max_side: see ``grow``.

    Raises:
        ImportError: scikit-image is not installed. ValueError: side below 1 pixel, compactness not positive.
    """
    height, width = image.shape[:2]
    small = torch.from_numpy(np.ascontiguousarray(working(image, max_side)).copy()).permute(2, 0, 1)[None]
    labels = slic_segments(small, side=side, compactness=compactness)[0].numpy()
    return RegionSet.from_labels(labels).resized((height, width))


def felzenszwalb(
    image: NDArray[np.uint8], name: str = "", *, scale: float = 200.0, sigma: float = 0.8, min_size: int = 100,
    max_side: int = 1024,
) -> RegionSet:  # fmt: skip
    """Felzenszwalb's segments of a picture [H, W, 3] uint8 as regions that cover it; ``name`` is not read.

    Args:
        scale: larger values give larger segments. sigma: of the Gaussian before. min_size: pixels of the smallest one.
        max_side: see ``grow``.

    Raises:
        ImportError: scikit-image is not installed. ValueError: a parameter out of its range.
    """
    if scale <= 0 or sigma < 0 or min_size < 1:
        raise ValueError(f"{scale=}, {sigma=}, {min_size=}; allowed: > 0, >= 0 and >= 1, e.g. 200, 0.8 and 100")
    cut = _skimage("felzenszwalb")
    labels = cut(working(image, max_side), scale=scale, sigma=sigma, min_size=min_size, channel_axis=-1)
    return RegionSet.from_labels(labels).resized((image.shape[0], image.shape[1]))


def slic_segments(image: Tensor, *, side: float = 16.0, compactness: float = 10.0) -> Tensor:
    """Superpixel numbers of every pixel, connected, picture by picture.

    Args:
        image: [B, 3, H, W] uint8, or floating point RGB in [0, 1].
        side: wished width of a superpixel in pixels.
        compactness: larger values give squarer superpixels, smaller ones follow colour more closely.

    Returns:
        [B, H, W] int64 from 0 without gaps.

    Raises:
        ImportError: scikit-image is not installed. ValueError: side below 1 pixel, compactness not positive.
    """
    if side < 1 or compactness <= 0:
        raise ValueError(f"{side=}, {compactness=}; allowed: >= 1 pixel and > 0, e.g. 16 and 10")
    cut = _skimage("slic")
    pictures = image_bytes(image).permute(0, 2, 3, 1).cpu().numpy()  # [B, H, W, 3]
    wanted = max(1, round(pictures.shape[1] * pictures.shape[2] / side**2))
    found = [cut(p, n_segments=wanted, compactness=compactness, start_label=0, channel_axis=-1) for p in pictures]
    return torch.stack([torch.from_numpy(labels).long() for labels in found]).to(image.device)


def _skimage(name: str) -> Any:
    try:
        from skimage import segmentation
    except ImportError as error:
        raise ImportError('superpixels need scikit-image: pip install "clipseg_ws[superpixels]"') from error
    return getattr(segmentation, name)
