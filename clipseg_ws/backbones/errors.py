"""What can go wrong when a backbone is loaded, as types a caller can tell apart. Imports nothing heavy."""

from __future__ import annotations

NEAREST = "use a ViT, for example 'ViT-B-16-quickgelu/openai', 'ViT-B-16-SigLIP2/webli' or 'ViT-L-14/laion2b_s32b_b82k'"


class UnsupportedBackbone(ValueError):
    """The model exists but its picture tower is no ViT on a grid, or nothing reads its texts; says what to use."""


class WeightsNotFound(FileNotFoundError):
    """The weights are not on this machine and could not be fetched; the message says where they were looked for."""
