"""Many pictures: batches by grid, decoding and writing in the background, resume, failures, progress, engines."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from clipseg_ws.files import ErrorsCsv, remove_unfinished
from clipseg_ws.pictures.sources import Source
from clipseg_ws.registry import find
from clipseg_ws.run import ENGINES
from clipseg_ws.run.job import Asked, Finish, Job, OnResult, Outcome, Summary, Tags, Weak
from clipseg_ws.run.made_with import MadeWith
from clipseg_ws.segmenter import Segmenter


def run_folder(
    segmenter: Segmenter, sources: Sequence[Source], directory: str | Path, question: Asked, *,
    formats: Sequence[str] = ("png", "overlay", "json"), overwrite: bool = False, tags: Tags | None = None,
    weak: Weak | None = None, workers: int = 2, on_result: OnResult | None = None, finish: Finish | None = None,
    errors_file: str | Path | None = None, engine: str = "local",
) -> Summary:  # fmt: skip
    """Segment pictures and write their files; one bad picture never stops the rest.

    Pictures whose files are all there are skipped unless ``overwrite``. Failures go to ``directory/errors.csv`` (image,
    error, message), which a run starts anew; a rerun tries them again. Progress is shown on a terminal only.

    Args:
        sources: of ``list_sources``; sub-folders are mirrored below ``directory``.
        question: of ``segmenter.ask``; or (local engine only) a function that gives it for the next batch.
        tags: source -> its class names (weak setting); a ValueError of it is that picture's failure.
        weak: source -> its weak labels, instead of ``tags``.
        workers: threads that decode, and as many that write.
        on_result: called with every finished picture, in the order in which they finish; by the local engine only.
        finish: last change of a result before it is counted and written; it may write more files (its own business).
        errors_file: instead of ``directory/errors.csv``.
        engine: a name of ``ENGINES``: same files, same resume.

    Raises:
        ValueError: formats that are wrong for every picture, an unknown engine, results there of another model (see
            ``made_with``). ImportError: no Ray here.
    """
    run = find(ENGINES, engine, "engine").load()
    directory = Path(directory).absolute()
    job = Job(segmenter, directory, tuple(formats), question, tags, weak, finish)
    remove_unfinished(directory)
    start = time.perf_counter()
    todo = [source for source in sources if overwrite or not job.is_done(source)]
    made = MadeWith(directory, segmenter.backbone)
    again = set(todo)
    made.check(source for source in sources if source not in again)
    summary = Summary(total=len(sources), skipped=len(sources) - len(todo))
    outcomes = run(job, todo, workers, on_result)
    _count(summary, outcomes, len(todo), errors_file or directory / "errors.csv", made)
    summary.seconds = time.perf_counter() - start
    return summary


def _count(
    summary: Summary, outcomes: Iterable[Outcome], total: int, errors_file: str | Path, made: MadeWith
) -> None:  # fmt: skip
    """Add up what becomes of the pictures, note who made them, list failures in a file begun anew, show progress."""
    if total:
        made.begin()
    Path(errors_file).unlink(missing_ok=True)
    errors = ErrorsCsv(errors_file)
    with tqdm(total=total, unit="img", disable=None) as bar:
        for outcome in outcomes:
            if outcome.error is None:
                summary.add(outcome)
                made.add(str(outcome.source.relative))
            else:
                errors.add_line(outcome.source, *outcome.error)
            bar.update()
    summary.failed = errors.count


def names_in(tags: Tags, sources: Sequence[Source]) -> list[list[str]]:
    """The names that occur in tags, for ``Segmenter.ask(tags=...)``; what cannot be read fails in its turn."""
    found: list[str] = []
    for source in sources:
        try:
            found += tags(source)
        except ValueError:
            continue
    return [found]
