"""Colours in which distances are about what the eye sees."""

from __future__ import annotations

import numpy as np


def lab(colours: np.ndarray) -> np.ndarray:
    """sRGB [n, 3] in [0, 1] -> CIELAB (D65) [n, 3]: L 0 to 100, a and b about -100 to 100."""
    linear = np.where(colours > 0.04045, ((colours + 0.055) / 1.055) ** 2.4, colours / 12.92)
    to_xyz = np.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    xyz = linear @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = root.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
