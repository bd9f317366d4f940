"""The training loop of a head: deterministic, resumable to the same curve, in one process or many."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from clipseg_ws.heads.base import Head, HeadOutput
from clipseg_ws.heads.checkpoint import load_checkpoint, save_checkpoint
from clipseg_ws.heads.data import Batch, HeadData, batch_order, by_grid
from clipseg_ws.heads.identity import training_digests
from clipseg_ws.heads.logs import Logs
from clipseg_ws.heads.losses import check_range
from clipseg_ws.heads.metrics import evaluate
from clipseg_ws.heads.objective import batch_weights, objective
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.heads.rows import EVERY, read_rows
from clipseg_ws.heads.workers import Alone

Extra = Callable[[nn.Module, Batch, HeadOutput, torch.Generator], Mapping[str, Tensor]]


@dataclass
class Progress:
    """Where a training is: what a checkpoint holds besides tensors."""

    step: int = 0
    best: float = -1.0
    best_step: int = 0
    stopped: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


class Trainer:
    """A head in training; every step depends on the configuration, its number and the weights only.

    Args:
        module: the head, changed in place. data: what it learns from. validation: for mIoU, early stop and the choice
            of the best weights; None: the last ones are kept.
        folder: of checkpoint and logs; None: nothing is written. extra: further losses by name.
        workers: other processes. tensorboard: write event files too (where TensorBoard is installed).
        about: what else made the data and the head, for errors that name it; a checkpoint is continued only where this,
            the first weights, data and further losses are equal (``identity``).
    """

    def __init__(
        self, module: Head, data: HeadData, config: TrainConfig, *, validation: HeadData | None = None,
        folder: str | Path | None = None, extra: Extra | None = None, workers: Alone | None = None,
        tensorboard: bool = True, about: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.workers = workers or Alone()
        if config.batch % self.workers.world:
            raise ValueError(f"batch={config.batch} must be a multiple of the {self.workers.world} processes")
        if config.precision == "float16" and self.workers.device.type != "cuda":
            raise ValueError("precision='float16' needs a CUDA device; choose 'bfloat16' or 'float32'")
        self.head, self.data, self.config, self.validation, self.extra = module, data, config, validation, extra
        self.module = self.workers.wrap(module)
        self._ahead_of_losses = self.workers.device.type != "cpu"
        self.mean = copy.deepcopy(module).requires_grad_(False)
        self.best: dict[str, Tensor] | None = None
        self.optimiser = torch.optim.AdamW(module.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        self.scaler = torch.amp.GradScaler(self.workers.device.type, enabled=config.precision == "float16")
        self.progress = Progress()
        self.folder = None if folder is None else Path(folder)
        self.tensorboard, self.about = tensorboard, dict(about or {})
        if self.folder is not None:
            self.about |= training_digests(module, data, validation, extra)
        self._per_pass = len(batch_order(len(data.grids), config.batch, (config.seed, 0)))
        self._order: tuple[int, list[list[int]]] = (-1, [])

    # ---- one step --------------------------------------------------------------------------------------------------

    def rate(self, step: int) -> float:
        """Learning rate of step ``step`` (from 0): linear start, then half a cosine."""
        c = self.config
        if step < c.warmup:
            return c.lr * (step + 1) / c.warmup
        return c.lr * 0.5 * (1 + math.cos(math.pi * (step - c.warmup) / max(1, c.steps - c.warmup)))

    def batch(self, number: int) -> list[Batch]:
        """This process's share of batch ``number`` of the training, in parts of one grid each."""
        c, rank = self.config, self.workers.rank
        epoch, place = divmod(number, self._per_pass)
        if self._order[0] != epoch:
            self._order = (epoch, batch_order(len(self.data.grids), c.batch, (c.seed, epoch)))
        index = self._order[1][place][rank :: self.workers.world]
        parts = by_grid(index, self.data.grids)
        return [self.data.batch(part, (c.seed, number, rank, k)) for k, part in enumerate(parts)]

    def step(self, parts: Sequence[Batch]) -> dict[str, Any]:
        """One optimiser step on all parts together; returns the losses and the learning rate. On a GPU the losses are
        tensors, not yet summed, so that nobody waits for them; see ``read_rows``."""
        c, number, device = self.config, self.progress.step, self.workers.device
        self.module.train()
        self.optimiser.zero_grad(set_to_none=True)
        if self._ahead_of_losses:
            for part in parts:  # on the host: a GPU would have to be asked
                check_range(part.labels, self.head.labels)
        parts = [part.to(device) for part in parts]
        total = self.workers.mean(torch.stack([batch_weights(part, c).sum() for part in parts]).sum())
        pictures = sum(len(part.index) for part in parts)
        sums: dict[str, Tensor] = {}
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            with torch.enable_grad() if last else self.workers.unsynchronised(self.module):
                losses = self._losses(part, (number, place), total, len(part.index) / pictures)
                torch.autograd.backward(self.scaler.scale(torch.stack(list(losses.values())).sum()))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0) + value.detach()
        row: dict[str, Any] = {"step": number + 1, **{name: self.workers.mean(v) for name, v in sums.items()}}
        if not self._ahead_of_losses:
            row = dict(read_rows([row], c.lr)[0])
        rate = self.rate(number)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.scaler.unscale_(self.optimiser)
        if c.clip:
            nn.utils.clip_grad_norm_(self.head.parameters(), c.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self._average(number)
        self.progress.step += 1
        return row | {"lr": rate}

    def _losses(self, batch: Batch, place: tuple[int, int], total: Tensor, share: float) -> dict[str, Tensor]:
        """Of one part; ``place``: number of the step and of the part."""
        device = self.workers.device
        kind = getattr(torch, self.config.precision)
        seed = int(np.random.default_rng((self.config.seed, *place, self.workers.rank)).integers(2**31))
        lone = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(lone), torch.autocast(device.type, kind, enabled=kind != torch.float32):
            torch.manual_seed(seed)  # of the dropout; the global generator is put back afterwards
            output = self.module(batch.features.float())
            losses = objective(output, batch, self.config, total=total, share=share)
            if self.extra is not None:
                more = self.extra(self.module, batch, output, torch.Generator().manual_seed(seed))
                losses |= {name: share * value for name, value in more.items()}
        return {name: value.float() for name, value in losses.items()}

    @torch.no_grad()
    def _average(self, number: int) -> None:
        keep = min(self.config.ema, (1 + number) / (10 + number))
        for mine, new in zip(self.mean.parameters(), self.head.parameters(), strict=True):
            mine.lerp_(new, 1 - keep)

    # ---- the whole -------------------------------------------------------------------------------------------------

    def run(self, *, resume: bool = True) -> Head:
        """Train to the end, or to an early stop; returns the averaged (best, with validation data) head.

        With a folder and ``resume`` an unfinished run goes on from its last checkpoint, on the same curve.

        Raises:
            TrainingFailed: the loss is no number. ValueError: the checkpoint was made with other settings.
        """
        path = None if self.folder is None else self.folder / "checkpoint.pt"
        if path is not None and resume and path.exists():
            self._go_on(load_checkpoint(path, self.settings(), self.workers.device))
        c, progress = self.config, self.progress
        started = time.monotonic()
        quiet = None if self.workers.main else True  # None: on a terminal only
        with (
            Logs(self.folder if self.workers.main else None, progress.history, tensorboard=self.tensorboard) as logs,
            ThreadPoolExecutor(1) as ahead,
            tqdm(total=c.steps, initial=progress.step, desc="head", unit="step", disable=quiet) as bar,
        ):
            coming, unread = self._ahead(ahead, progress.step), []
            while progress.step < c.steps and not progress.stopped:
                batches = coming.result()
                coming = self._ahead(ahead, progress.step + 1)
                row = self.step(batches)
                if self.validation is not None and (progress.step % c.validate_every == 0 or progress.step == c.steps):
                    row["miou"] = self._look()
                unread.append((row, time.monotonic() - started))
                bar.update()
                last = progress.step == c.steps or progress.stopped
                saves = path is not None and (progress.step % c.save_every == 0 or last)
                if saves or last or "miou" in row or len(unread) == EVERY or not self._ahead_of_losses:
                    self._read(unread, logs, bar)
                if saves and path is not None:
                    if self.workers.main:
                        save_checkpoint(self._state(), path)
                    self.workers.wait()
            coming.cancel()
        return self.result()

    def _read(self, unread: list[tuple[dict[str, Any], float]], logs: Logs, bar: Any) -> None:
        """Rows of steps, and after how many seconds, into history, logs and bar; none are left. Raises TrainingFailed."""
        rows = [row for row, _ in unread]
        rows = read_rows(rows, self.config.lr) if self._ahead_of_losses else rows
        for row, (_, seconds) in zip(rows, unread, strict=True):
            self.progress.history.append(row)
            logs.add(row, seconds)
        unread.clear()
        shown = {k: f"{row[k]:.3f}" for k in ("loss", "miou") if k in row}
        bar.set_postfix(shown | ({"best": f"{self.progress.best:.3f}"} if self.progress.best >= 0 else {}))

    def result(self) -> Head:
        """The averaged head with the best weights so far, in evaluation mode."""
        if self.best is not None:
            self.mean.load_state_dict(self.best)
        return self.mean.eval()

    def _ahead(self, pool: ThreadPoolExecutor, step: int) -> Future[list[Batch]]:
        """The batches of a step are read while the one before is computed."""
        numbers = range(step * self.config.accumulate, (step + 1) * self.config.accumulate)
        return pool.submit(lambda: [part for number in numbers for part in self.batch(number)])

    def _look(self) -> float:
        """mIoU of the averaged head; keeps the best weights and decides on stopping."""
        assert self.validation is not None
        score = evaluate(self.mean, self.validation, batch=self.config.batch, workers=self.workers)
        progress = self.progress
        if score > progress.best:
            progress.best, progress.best_step = score, progress.step
            self.best = {k: v.detach().clone() for k, v in self.mean.state_dict().items()}
        waited = (progress.step - progress.best_step) // self.config.validate_every
        progress.stopped = bool(self.config.patience) and waited >= self.config.patience
        return score

    def _state(self) -> dict[str, Any]:
        """Weights, their average, the best ones, the optimiser, the history and the settings."""
        return {
            "settings": self.settings(), "progress": asdict(self.progress), "module": self.head.state_dict(),
            "mean": self.mean.state_dict(), "best": self.best, "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }  # fmt: skip

    def _go_on(self, state: Mapping[str, Any]) -> None:
        """From a state of ``_state``."""
        self.head.load_state_dict(state["module"])
        self.mean.load_state_dict(state["mean"])
        self.best = state["best"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        vars(self.progress).update(state["progress"])

    def settings(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued."""
        data = {"pictures": len(self.data.grids), "blocks": self.data.blocks, "width": self.data.width}
        head = {"head": type(self.head).__name__, "labels": self.head.labels}
        return self.config.as_dict() | data | head | self.about
