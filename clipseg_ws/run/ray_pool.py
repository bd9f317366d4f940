"""A pool of actors on a Ray cluster that work through a list of items, by Ray Data (extra ``ray``). No torch here."""

from __future__ import annotations

import logging
import os
import pickle
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

RESTARTS = 2  # of an actor that died, and of the batch it had; then that batch gives no answers
Work = Callable[[list[Any]], Sequence[Any]]  # items of a batch -> answers


def stream(
    make: Callable[[], Work],
    items: Sequence[Any],
    batch_size: int,
    *,
    device: str = "auto",
    read: Callable[[Any], Any] | None = None,
) -> Iterator[Any]:
    """Spread items over a pool of actors with Ray Data.

    Args:
        make: called once in every actor; what it returns is called with lists of items and returns answers.
        items: picklable. batch_size: items a call. device: "auto" or "cuda..." take a GPU an actor where there are any.
        read: item -> what the actor gets in its place; runs in tasks of its own, ahead of the actors.

    Yields answers as they come; a batch that is lost with its actor three times gives none. Raises what ``make``
    raises, and RuntimeError where a worker's call raised.
    """
    ray, own = _connect()
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.print_on_execution_start = False, False
        context.max_errored_blocks = -1  # lost batches are missed by the caller, not fatal
        for row in _answers(ray, make, items, batch_size, device, read).iter_rows():
            answer = pickle.loads(row["answer"])
            if isinstance(answer, _Broken):
                raise RuntimeError(f"a worker failed:\n{answer.trace}")
            yield answer
    finally:
        if own:
            ray.shutdown()


def _answers(
    ray: Any, make: Callable[[], Work], items: Sequence[Any], batch_size: int, device: str,
    read: Callable[[Any], Any] | None,
) -> Any:  # fmt: skip
    """A Ray data set of pickled answers; nothing runs before its rows are asked for."""
    blocks = max(1, -(-len(items) // batch_size))
    data = ray.data.from_items([{"item": pickle.dumps(item)} for item in items], override_num_blocks=blocks)
    if read is not None:
        data = data.map(partial(_read_row, read), num_cpus=0.25)
    count, share = _pool(ray.cluster_resources(), device)
    return data.map_batches(
        _Actor, fn_constructor_args=(ray.cloudpickle.dumps(make),), batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=min(count, blocks)), max_restarts=RESTARTS, max_task_retries=RESTARTS,
        **share,
    )  # fmt: skip


class _Actor:
    """One process of the pool."""

    def __init__(self, made: bytes) -> None:
        self.work = pickle.loads(made)()

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        """Ray Data's batch, a column of pickled items -> a column of pickled answers."""
        try:
            answers = self.work([pickle.loads(item) for item in batch["item"]])
        except Exception:  # a lost batch would be dropped in silence, see max_errored_blocks
            answers = [_Broken(traceback.format_exc())]
        return {"answer": [pickle.dumps(answer) for answer in answers]}


@dataclass(frozen=True)
class _Broken:
    """Travels instead of answers where the work raised."""

    trace: str


def _read_row(read: Callable[[Any], Any], row: dict[str, Any]) -> dict[str, Any]:
    return {"item": pickle.dumps(read(pickle.loads(row["item"])))}


def _pool(resources: dict[str, float], device: str) -> tuple[int, dict[str, float]]:
    """How many actors, and what each asks for: a whole GPU, else a core; on a tiny cluster half a core.

    As many whole-core actors as cores would starve Ray's own readers.
    """
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
    if gpus and (device == "auto" or device.startswith("cuda")):
        return gpus, {"num_gpus": 1, "num_cpus": 0}
    return (cores, {"num_cpus": 0.5}) if cores <= 4 else (cores - 1, {"num_cpus": 1})


def _connect() -> tuple[Any, bool]:
    """Ray, connected to $RAY_ADDRESS or else to a cluster of this machine, and whether that was started here."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("--engine ray needs Ray: pip install 'clipseg_ws[ray]'") from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        return ray, False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return ray, True
