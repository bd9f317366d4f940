"""What can go wrong when a backbone is loaded, as types a caller can tell apart. Imports nothing heavy."""

from __future__ import annotations


class UnsupportedBackbone(ValueError):
    """The model exists but its towers are not CLIP's ViT and CLIP's text transformer; the message says what to use."""


class WeightsNotFound(FileNotFoundError):
    """The weights are not on this machine and could not be fetched; the message says where they were looked for."""
