"""A picture cut into SLIC superpixels (extra ``[superpixels]``, package scikit-image).

Paper: Achanta et al., "SLIC Superpixels Compared to State-of-the-Art Superpixel Methods", TPAMI 2012.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clipseg_ws.pictures.images import image_bytes


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
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise ImportError('superpixels need scikit-image: pip install "clipseg_ws[superpixels]"') from error
    pictures = image_bytes(image).permute(0, 2, 3, 1).cpu().numpy()  # [B, H, W, 3]
    wanted = max(1, round(pictures.shape[1] * pictures.shape[2] / side**2))
    found = [slic(p, n_segments=wanted, compactness=compactness, start_label=0, channel_axis=-1) for p in pictures]
    return torch.stack([torch.from_numpy(labels).long() for labels in found]).to(image.device)
