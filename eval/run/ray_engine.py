"""An evaluation's pass over the data on a Ray cluster: partial states come back and are merged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.run.local_engine import GIVE_UP, Run, RunFailed, peak_memory_mb, read_ahead, step
from clipseg_ws.eval.run.state import RunState
from clipseg_ws.run.ray_pool import stream
from clipseg_ws.run.shards import shard_of

CHUNK = 4  # batches that a worker gets at once


def run_pass_ray(
    dataset: Dataset | EpisodeSet, runs: Sequence[Run], *, shard: tuple[int, int], batch_size: int, workers: int
) -> None:
    """``run_pass`` with every batch in some actor of the cluster; sums are integers, so the numbers are the same.

    Pictures that were lost with their worker are listed as failed.
    """
    ids = [id for id in shard_of(dataset.ids, shard) if any(id not in run.state.scores for run in runs)]
    parts = [_Part(run.predictor, run.scorer, run.id) for run in runs]
    make = partial(_Scoring, dataset, parts, batch_size, workers)
    device = str(getattr(getattr(runs[0].predictor, "segmenter", None), "recipe", {}).get("device", "cpu"))
    with tqdm(total=len(ids), unit="image", disable=None) as bar:
        for states in stream(make, ids, CHUNK * batch_size, device=device) if ids else ():
            for run, state in zip(runs, states, strict=True):
                _merge(run, state)
            bar.update(len(states[0].scores) + len(states[0].failed))
    for run in runs:
        lost = [id for id in ids if id not in run.state.scores and id not in run.state.failed]
        run.state.failed |= dict.fromkeys(lost, "WorkerDied: the worker process ended while it had this picture")
        order = {id: place for place, id in enumerate(dataset.ids)}
        run.state.scores = dict(sorted(run.state.scores.items(), key=lambda item: order[item[0]]))
        run.state.finished = run.state.finished or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        run.save()


def _merge(run: Run, state: RunState) -> None:
    """Add a worker's part. Raises RunFailed where nothing but failures came so far."""
    run.state.merge(state)
    run.unsaved += len(state.scores)
    run.save_now_and_then()
    if not run.state.scores and len(run.state.failed) >= GIVE_UP:
        first = next(iter(run.state.failed.items()))
        raise RunFailed(f"{run.predictor.name}: the first {GIVE_UP} pictures all failed, e.g. {': '.join(first)}")


@dataclass(frozen=True)
class _Part:
    """What a worker needs of a run."""

    predictor: Any
    scorer: Any
    id: str


class _Collected(Run):
    """A run whose state is handed over instead of saved."""

    def save_now_and_then(self) -> None:
        """Nothing: the driver saves."""

    def fail(self, id: str, error: Exception) -> None:
        """Note a failure; whether to give up is the driver's decision."""
        self.state.failed[id] = f"{type(error).__name__}: {error}"


class _Scoring:
    """What an actor holds: the data set's readers and the methods with their Segmenters."""

    def __init__(self, dataset: Any, parts: Sequence[_Part], batch_size: int, workers: int) -> None:
        self.dataset, self.parts, self.batch_size, self.workers = dataset, parts, batch_size, workers

    def __call__(self, ids: Sequence[str]) -> list[list[RunState]]:
        """One answer: a state a method, with these pictures in it."""
        runs = [
            _Collected(p.predictor, p.scorer, p.id, {}, p.scorer.new_state(), path=Path(), save_every=0)
            for p in self.parts
        ]
        started = time.perf_counter()
        for batch in read_ahead(self.dataset, list(ids), self.batch_size, self.workers):
            waited = (time.perf_counter() - started) / len(runs)
            for run in runs:
                step(run, batch, waited)
            started = time.perf_counter()
        for run in runs:
            run.state.memory = peak_memory_mb()
        return [[run.state for run in runs]]
