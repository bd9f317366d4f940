"""Running an evaluation: several methods in one pass over the data, resumable, in shards, failures listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.predictors import Predictor
from clipseg_ws.eval.protocols import Protocol
from clipseg_ws.eval.report.gallery import draw_gallery
from clipseg_ws.eval.run.identity import identity, run_id
from clipseg_ws.eval.run.local_engine import Run, RunFailed, run_pass
from clipseg_ws.eval.run.results import write_results
from clipseg_ws.eval.run.scorer import Scorer
from clipseg_ws.eval.run.state import RunState
from clipseg_ws.run.shards import WHOLE
from clipseg_ws.together import locked

__all__ = ["Options", "RunFailed", "evaluate"]


@dataclass(frozen=True)
class Options:
    """How a run is carried out; nothing here changes a number except ``limit`` and what is measured.

    Attributes:
        limit: first pictures only. shard: (i, n), i from 1: pictures i, i + n, ...
        save_every: pictures between two saved states. batch_size: pictures a call.
        boundary, sweep: measure boundary IoU, sweep thresholds (methods that return maps only).
        workers: threads that read truth ahead. overwrite: begin anew.
        gallery: how many of the worst and of the best pictures are drawn for the report.
        seed: for the record, of drawn episodes.
        engine: "local", or "ray": actors on all machines of a Ray cluster.
    """

    limit: int | None = None
    shard: tuple[int, int] = WHOLE
    save_every: int = 50
    batch_size: int = 1
    boundary: bool = True
    sweep: bool = False
    workers: int = 2
    overwrite: bool = False
    gallery: int = 0
    seed: int | None = None
    engine: str = "local"


def evaluate(
    dataset: Dataset | EpisodeSet,
    predictors: Sequence[Predictor],
    out: str | Path,
    *,
    protocol: Protocol | None = None,
    options: Options | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[dict[str, Any] | None]:
    """Evaluate every predictor in one pass over the data and write the tables into ``out``.

    A run that was killed goes on where its last saved state ends and gives the same number bit for bit; pictures that
    failed are tried again. With shards, the process that finishes last merges them and writes the row.

    Args:
        dataset: decides what a method may read. predictors: different methods, best ones that share a backbone.
        protocol: averaging and scoring size; default: ``Protocol("default")``. say: gets messages for the user.

    Returns:
        A results row a predictor (keys ``tables.COLUMNS``), None while other shards are missing.

    Raises:
        ProtocolViolation: a method asked for labels its setting does not allow; no result is written.
        RunFailed: not one picture could be scored. BlockingIOError: another process works on the same shard.
    """
    protocol, options, out = protocol or Protocol("default"), options or Options(), Path(out)
    if isinstance(dataset, EpisodeSet) and protocol.score_size is not None:
        dataset = replace(dataset, size=protocol.score_size)
    dataset = dataset if options.limit is None else dataset.limited(options.limit)
    scorer = Scorer(dataset, protocol, options.boundary, options.sweep)
    with ExitStack() as locks:
        runs = [_open(scorer, predictor, out, options, locks, say) for predictor in predictors]
        engine = find_engine(options.engine)
        engine(dataset, runs, shard=options.shard, batch_size=options.batch_size, workers=options.workers)
    return [_finish(run, options, out, say) for run in runs]


def find_engine(name: str) -> Callable[..., None]:
    """The function that goes through the pictures. Raises ValueError for an unknown name."""
    if name == "local":
        return run_pass
    if name == "ray":
        from clipseg_ws.eval.run.ray_engine import run_pass_ray

        return run_pass_ray
    raise ValueError(f"engine {name!r} is unknown; choose one of local, ray, for example 'local'")


def _open(
    scorer: Scorer, predictor: Predictor, out: Path, options: Options, locks: ExitStack, say: Callable[[str], None]
) -> Run:
    """A run with its saved state, locked for this process."""
    content = identity(scorer.dataset, scorer.protocol, predictor, limit=options.limit, measured=scorer.measured)
    id = run_id(content)
    shard = "{}-of-{}".format(*options.shard)
    folder = out / "state" / id
    try:
        locks.enter_context(locked(folder / f"{shard}.lock", wait=False))
    except BlockingIOError as error:
        raise BlockingIOError(f"another process works on shard {shard} of {id}; use --shard i/n to share it") from error
    path = folder / f"{shard}.npz"
    state = scorer.new_state() if options.overwrite else _resume(path, scorer, say)
    return Run(predictor, scorer, id, content, state, path, options.save_every)


def _resume(path: Path, scorer: Scorer, say: Callable[[str], None]) -> RunState:
    """The saved state if this very program made it, else an empty one. What failed is tried again."""
    saved = scorer.new_state()
    if not path.is_file():
        return saved
    saved.load(path)
    if saved.code != scorer.new_state().code:
        say(f"{path.parent.name}: the saved state is of another version of the program, beginning anew")
        return scorer.new_state()
    say(f"{path.parent.name}: going on after {len(saved.scores)} finished pictures")
    if saved.failed:
        saved.failed, saved.finished = {}, ""
    return saved


def _finish(run: Run, options: Options, out: Path, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Merge the shards of a run if all are finished, and write its tables."""
    dataset = run.scorer.dataset
    with locked(run.path.parent / "merge.lock"):
        state, missing = run.state, list[str]()
        if options.shard[1] > 1:
            state, missing = _merged(run, options.shard[1])
        if missing:
            failed = f" ({len(run.state.failed)} failed)" if run.state.failed else ""
            say(f"{run.id}: shard {run.path.stem} is done{failed}; still missing: {', '.join(missing)}")
            return None
        if not state.scores:
            first = next(iter(state.failed.items()), ("", "no picture"))
            raise RunFailed(f"{run.id}: none of {len(dataset.ids)} pictures was scored, e.g. {': '.join(first)}")
        about = {"batch": options.batch_size, "seed": options.seed}
        row = write_results(out, run.id, run.content, run.scorer, run.predictor, state, about)
        draw_gallery(out / "gallery" / run.id, dataset, run.predictor, state.scores, options.gallery)
        return row


def _merged(run: Run, count: int) -> tuple[RunState, list[str]]:
    """All shards as one state, and the names of those that are not there, not finished, or of another program."""
    whole, missing = run.scorer.new_state(), list[str]()
    for number in range(1, count + 1):
        path = run.path.with_name(f"{number}-of-{count}.npz")
        part = run.scorer.new_state()
        if path.is_file():
            part.load(path)
        if not part.finished or part.code != whole.code:
            missing.append(path.stem)
        else:
            whole.merge(part)
    return whole, missing
