"""A training's state on disk: written whole or not at all, read back without running anything in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clipseg_ws.door.errors import InputError, one_line, reading
from clipseg_ws.door.plain import regular
from clipseg_ws.files import atomic_write


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """``state``: "settings" of the training, and whatever it needs to go on, as tensors and plain values."""
    try:
        with atomic_write(path) as temporary:
            torch.save(dict(state), temporary)
    except (OSError, RuntimeError) as error:  # torch says RuntimeError where the disk is full
        kept = "the one before is whole" if path.exists() else "there is none yet"
        raise OSError(
            f"no checkpoint could be written to {str(path)!r} ({one_line(error, 200)}); {kept}: make room, then the "
            "same command goes on from it"
        ) from error


def load_checkpoint(path: Path, settings: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A saved state. Raises InputError where it is empty, cut off or no such state, or was made with other
    ``settings``; the differing ones are named."""
    advice = "delete it; the training then begins anew"
    with reading(path, "a checkpoint of a training", advice=advice):
        regular(path)
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if not isinstance(state, dict) or not isinstance(state.get("settings"), Mapping):
        raise InputError("not a checkpoint of a training: it holds no settings", file=path, advice=advice)
    its = state["settings"]
    differing = {k: (its.get(k), settings.get(k)) for k in {*settings, *its} if its.get(k) != settings.get(k)}
    if differing:
        listed = ", ".join(f"{k}: {a} there, {b} now" for k, (a, b) in sorted(differing.items()))
        raise InputError(f"{str(path)!r} was made with other settings ({listed}); use those, or another folder")
    return state
