"""The losses of training steps, read from the device: for many steps at once, since the host waits for each read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

EVERY = 10  # steps that a GPU is ahead of their losses at most


class TrainingFailed(ValueError):
    """The loss is no number any more; the message says at which step and what helps."""


def read_rows(rows: Sequence[Mapping[str, Any]], lr: float) -> list[dict[str, float]]:
    """Rows of steps with their losses as scalar tensors -> the same in numbers, with their sum as "loss".

    Args:
        rows: "step" first, then the losses, then plain numbers. lr: the highest learning rate, for the message.

    Raises:
        TrainingFailed: a loss is no number; the first such step is named.
    """
    tensors = [value.detach().double() for row in rows for value in row.values() if isinstance(value, Tensor)]
    numbers = iter(torch.stack(tensors).tolist() if tensors else ())
    return [_row(row, {k: next(numbers) for k, v in row.items() if isinstance(v, Tensor)}, lr) for row in rows]


def _row(row: Mapping[str, Any], losses: dict[str, float], lr: float) -> dict[str, float]:
    loss = sum(losses.values())
    if not math.isfinite(loss):
        raise TrainingFailed(
            f"the loss is {loss} at step {row['step']} ({losses}); a lower lr (now {lr}) or precision='float32' "
            "helps; a loss that is nan at the first step means tokens that are no numbers"
        )
    rest = {key: value for key, value in row.items() if key != "step" and key not in losses}
    return {"step": row["step"], "loss": loss, **losses, **rest}
