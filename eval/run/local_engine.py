"""One pass over the pictures for several methods: read ahead in threads, predict, score, save, list failures."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.guard import ProtocolViolation, Sample
from clipseg_ws.eval.predictors import Prediction, Predictor
from clipseg_ws.eval.run.scorer import Scorer
from clipseg_ws.eval.run.state import RunState
from clipseg_ws.run.shards import shard_of

SAVE_SECONDS = 60.0  # a state is saved at least this often, however slow the method
GIVE_UP = 10  # pictures that fail from the start until a run stops: then it is the set-up, not the pictures
Batch = list[tuple[str, Any]]  # (id, (sample, truth) or the exception that reading raised)


class RunFailed(ValueError):
    """A run without a single scored picture."""


@dataclass
class Run:
    """One method of the pass, how far it has come, and where that is saved.

    Attributes:
        id: of the run. content: its identity, see ``identity``. save_every: pictures between two saved states.
    """

    predictor: Predictor
    scorer: Scorer
    id: str
    content: dict[str, Any]
    state: RunState
    path: Path
    save_every: int
    unsaved: int = 0
    saved_at: float = 0.0

    def save(self) -> None:
        """Write the state."""
        self.state.save(self.path)
        self.unsaved, self.saved_at = 0, time.monotonic()

    def save_now_and_then(self) -> None:
        """Write the state where enough pictures or time have passed."""
        if self.unsaved >= self.save_every or (self.unsaved and time.monotonic() - self.saved_at > SAVE_SECONDS):
            self.save()

    def fail(self, id: str, error: Exception) -> None:
        """Note a failure. Raises RunFailed where nothing but failures came so far."""
        self.state.failed[id] = f"{type(error).__name__}: {error}"
        if not self.state.scores and len(self.state.failed) >= GIVE_UP:
            text = f"{self.predictor.name}: the first {GIVE_UP} pictures all failed, e.g. {id}: {error}"
            raise RunFailed(text) from error


def run_pass(
    dataset: Dataset | EpisodeSet, runs: Sequence[Run], *, shard: tuple[int, int], batch_size: int, workers: int
) -> None:
    """Go through the pictures of the shard that some run still needs. What breaks in loses what is not saved yet."""
    ids = [id for id in shard_of(dataset.ids, shard) if any(id not in run.state.scores for run in runs)]
    started = time.perf_counter()
    for run in runs:
        run.saved_at = time.monotonic()
    with tqdm(total=len(ids), unit="image", disable=None) as bar:
        for batch in read_ahead(dataset, ids, batch_size, workers):
            waited = (time.perf_counter() - started) / len(runs)
            for run in runs:
                step(run, batch, waited)
            bar.update(len(batch))
            bar.set_postfix_str(_running(runs[0]), refresh=False)
            started = time.perf_counter()
    for run in runs:
        if not run.state.finished:
            run.state.finished = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            run.state.memory = max(run.state.memory, peak_memory_mb())
            run.save()


def read_ahead(dataset: Dataset | EpisodeSet, ids: Sequence[str], batch_size: int, workers: int) -> Iterator[Batch]:
    """Batches in order; threads read samples and truth a few batches ahead."""

    def read(id: str) -> Any:
        try:
            return dataset.sample(id), dataset.truth(id)
        except Exception as error:
            return error

    waiting: list[tuple[str, Future[Any]]] = []
    rest, ahead = iter(ids), 4 * max(batch_size, workers)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        while True:
            waiting += [(id, pool.submit(read, id)) for id in islice(rest, ahead - len(waiting))]
            if not waiting:
                return
            batch, waiting = waiting[:batch_size], waiting[batch_size:]
            yield [(id, future.result()) for id, future in batch]


def step(run: Run, batch: Batch, waited: float) -> None:
    """One batch through one method; pictures that it has already are left out."""
    started = time.perf_counter()
    todo = []
    for id, read in batch:
        if id in run.state.scores:
            continue
        if isinstance(read, Exception):
            run.fail(id, read)
        else:
            todo.append((id, *read))
    for (id, sample, truth), answer in zip(todo, predict(run, [item[1] for item in todo]), strict=True):
        try:
            if isinstance(answer, Exception):
                raise answer
            run.state.scores[id] = run.scorer.add(run.state, id, answer, truth)
            run.state.read |= sample.labels.read
            run.unsaved += 1
        except Exception as error:
            run.fail(id, error)
    run.state.total += time.perf_counter() - started + waited
    run.save_now_and_then()


def predict(run: Run, samples: list[Sample]) -> list[Prediction | Exception]:
    """Answers of a batch; if the batch fails, of every picture on its own. Raises ProtocolViolation only."""
    started = time.perf_counter()
    answers: list[Prediction | Exception] = []
    try:
        answers = list(run.predictor.predict(samples)) if samples else []
        if len(answers) != len(samples):
            raise RuntimeError(f"{run.predictor.name} gave {len(answers)} answers for {len(samples)} pictures")
    except ProtocolViolation:
        raise
    except Exception as error:
        if len(samples) > 1:
            return [answer for sample in samples for answer in predict(run, [sample])]
        answers = [error]
    run.state.seconds += time.perf_counter() - started
    return answers


def _running(run: Run) -> str:
    """What stands behind the progress bar."""
    failed = f", {len(run.state.failed)} failed" if run.state.failed else ""
    return f"{run.predictor.name} mIoU {100 * run.scorer.miou(run.state):.2f}{failed}"


def peak_memory_mb() -> float:
    """Largest memory so far in MB: of the GPU where one is in use, else of this process (nan on Windows)."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
