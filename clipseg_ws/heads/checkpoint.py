"""A training's state on disk: written whole or not at all, read back without running anything in it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from clipseg_ws.files import atomic_write

if TYPE_CHECKING:
    from clipseg_ws.heads.training import Trainer


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Weights, their average, the best ones, the optimiser, the history and the settings."""
    state = {
        "settings": trainer.settings(), "progress": asdict(trainer.progress), "module": trainer.head.state_dict(),
        "mean": trainer.mean.state_dict(), "best": trainer.best, "optimiser": trainer.optimiser.state_dict(),
        "scaler": trainer.scaler.state_dict(),
    }  # fmt: skip
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(trainer: Trainer, path: Path) -> None:
    """Continue from a saved state.

    Raises ValueError where it was made with other settings or another number of pictures.
    """
    state = torch.load(path, map_location=trainer.workers.device, weights_only=True)
    mine, its = trainer.settings(), state["settings"]
    differing = {k: (its.get(k), mine.get(k)) for k in {*mine, *its} if its.get(k) != mine.get(k)}
    if differing:
        listed = ", ".join(f"{k}: {a} there, {b} now" for k, (a, b) in sorted(differing.items()))
        raise ValueError(f"{str(path)!r} was made with other settings ({listed}); use those, or another folder")
    trainer.head.load_state_dict(state["module"])
    trainer.mean.load_state_dict(state["mean"])
    trainer.best = state["best"]
    trainer.optimiser.load_state_dict(state["optimiser"])
    trainer.scaler.load_state_dict(state["scaler"])
    for key, value in state["progress"].items():
        setattr(trainer.progress, key, value)
