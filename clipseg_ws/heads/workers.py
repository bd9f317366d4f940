"""One process, or many through accelerate: the few things that a training loop needs to know about the others."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn


class Alone:
    """A single process."""

    rank, world, main = 0, 1, True

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)

    def wrap(self, module: nn.Module) -> nn.Module:
        """Nothing to add."""
        return module.to(self.device)

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the processes."""
        return value

    def sum(self, value: Tensor) -> Tensor:
        """Sum over the processes."""
        return value

    def wait(self) -> None:
        """Until all are here."""

    def unsynchronised(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Where gradients are summed up on their own (accumulation)."""
        return nullcontext()


class Accelerated(Alone):
    """One of several processes that ``accelerate launch`` started. Raises ImportError without accelerate."""

    def __init__(self, device: str | torch.device = "auto") -> None:
        try:
            from accelerate import Accelerator, InitProcessGroupKwargs
        except ImportError as error:
            raise ImportError("several processes need accelerate: pip install 'clipseg_ws[train]'") from error
        # the first process may encode a large data set while the others wait
        patience = InitProcessGroupKwargs(timeout=timedelta(hours=12))
        self.accelerator: Any = Accelerator(cpu=str(device) == "cpu", kwargs_handlers=[patience])
        self.device = self.accelerator.device
        self.rank, self.world = self.accelerator.process_index, self.accelerator.num_processes
        self.main = self.accelerator.is_main_process

    def wrap(self, module: nn.Module) -> nn.Module:
        """With gradients averaged over the processes."""
        wrapped: nn.Module = self.accelerator.prepare_model(module)
        return wrapped

    def mean(self, value: Tensor) -> Tensor:
        """Mean over the processes."""
        result: Tensor = self.accelerator.reduce(value, "mean")
        return result

    def sum(self, value: Tensor) -> Tensor:
        """Sum over the processes."""
        result: Tensor = self.accelerator.reduce(value, "sum")
        return result

    def wait(self) -> None:
        """Until all are here."""
        self.accelerator.wait_for_everyone()

    def unsynchronised(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Gradients are exchanged at the last part of a step only."""
        alone: AbstractContextManager[Any] = self.accelerator.no_sync(module)
        return alone


def find_workers(device: str | torch.device = "cpu") -> Alone:
    """``Accelerated`` where several processes were launched (WORLD_SIZE > 1), else ``Alone`` ("auto": on the CPU)."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return Accelerated(device)
    return Alone("cpu" if device == "auto" else device)
