"""A training's state on disk: written whole or not at all, read back without running anything in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipseg_ws.files import atomic_write


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """``state``: "settings" of the training, and whatever it needs to go on, as tensors and plain values."""
    with atomic_write(path) as temporary:
        torch.save(dict(state), temporary)


def load_checkpoint(path: Path, settings: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A saved state. Raises ValueError where it was made with other ``settings``; the differing ones are named."""
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    its = state["settings"]
    differing = {k: (its.get(k), settings.get(k)) for k in {*settings, *its} if its.get(k) != settings.get(k)}
    if differing:
        listed = ", ".join(f"{k}: {a} there, {b} now" for k, (a, b) in sorted(differing.items()))
        raise ValueError(f"{str(path)!r} was made with other settings ({listed}); use those, or another folder")
    return state
