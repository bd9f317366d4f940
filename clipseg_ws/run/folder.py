"""Many pictures: batches by grid, decoding and writing in the background, resume, failures, progress, engines."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipseg_ws.files import ErrorsCsv, remove_unfinished
from clipseg_ws.output.answers import add_question
from clipseg_ws.output.formats import picture_formats
from clipseg_ws.output.save import done_sources
from clipseg_ws.pictures.sources import Source
from clipseg_ws.registry import find
from clipseg_ws.run import ENGINES
from clipseg_ws.run.asked import content_of
from clipseg_ws.run.job import Asked, Finish, Job, OnResult
from clipseg_ws.run.kept import Kept, drop, sort_out
from clipseg_ws.run.made_with import MadeWith
from clipseg_ws.run.plan import Tags, Weak
from clipseg_ws.run.plan import names_in as names_in
from clipseg_ws.run.summary import Outcome, Summary
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stages.question import Question

SHOWN = 5  # failures whose reason is printed; all are in errors.csv


def run_folder(
    segmenter: Segmenter, sources: Sequence[Source], directory: str | Path, question: Asked, *,
    formats: Sequence[str] = ("png", "overlay", "json"), overwrite: bool = False, tags: Tags | None = None,
    weak: Weak | None = None, workers: int = 2, on_result: OnResult | None = None, finish: Finish | None = None,
    errors_file: str | Path | None = None, engine: str = "local", about: Mapping[str, Any] | None = None,
    also: Sequence[str] = (), say: Callable[[str], None] = lambda text: None,
) -> Summary:  # fmt: skip
    """Segment pictures and write their files; one bad picture never stops the rest.

    Files that answer this question with these labels about this very picture are kept unless ``overwrite`` (see
    ``kept``). Failures go to ``directory/errors.csv``, which a run starts anew; a rerun tries them again.

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
        about: what decides the files besides ``question`` (in ``finish``, in a question that changes), JSON-able.
        also: names of what ``finish`` writes. say: told at once what is done again.

    Raises:
        ValueError: wrong formats, an unknown engine, results there of another model (``made_with``), places not to be
            written to (``kept.sort_out``). ImportError: no Ray here.
    """
    run = find(ENGINES, engine, "engine").load()
    job = make_job(
        segmenter, directory, question, formats=formats, tags=tags, weak=weak, finish=finish, about=about, also=also
    )
    start = time.perf_counter()
    made, kept = _begin(job, sources, overwrite, say)
    summary = Summary(total=len(sources), skipped=len(sources) - len(kept.todo), again=list(kept.lines()))
    outcomes = _dropping(job, kept.again, run(job, kept.todo, workers, on_result))
    _count(summary, outcomes, len(kept.todo), errors_file or job.directory / "errors.csv", made)
    summary.seconds = time.perf_counter() - start
    return summary


def _begin(job: Job, sources: Sequence[Source], overwrite: bool, say: Callable[[str], None]) -> tuple[MadeWith, Kept]:
    """Sort the sources, say what is done again, and keep what is asked now.

    Raises ValueError where another model made some of the results that are there, and as ``sort_out``.
    """
    remove_unfinished(job.directory)
    made = MadeWith(job.directory, job.segmenter.backbone)
    if not overwrite:
        made.check(done_sources(job.directory, sources, job.formats))
    kept = sort_out(job, sources, overwrite=overwrite)
    for line in kept.lines():
        say(line)
    if kept.todo:
        add_question(job.directory, job.content)
    return made, kept


def make_job(
    segmenter: Segmenter, directory: str | Path, question: Asked, *, formats: Sequence[str], tags: Tags | None = None,
    weak: Weak | None = None, finish: Finish | None = None, about: Mapping[str, Any] | None = None,
    also: Sequence[str] = (),
) -> Job:  # fmt: skip
    """The job of ``run_folder``, with the digest of what is asked; nothing is written."""
    fixed = question if isinstance(question, Question) else None
    return Job(
        segmenter=segmenter, directory=Path(directory).absolute(), formats=picture_formats(formats), question=question,
        tags=tags, weak=weak, finish=finish, content=content_of(segmenter, fixed, about or {}), root=os.getcwd(),
        also=tuple(also),
    )  # fmt: skip


def _dropping(job: Job, again: Mapping[Source, str], outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """The outcomes; old answers to another question go where no new one could be made."""
    for outcome in outcomes:
        if outcome.error is not None and outcome.source in again:
            drop(job, outcome.source)
        yield outcome


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
                if len(summary.reasons) < SHOWN:
                    summary.reasons.append(_reason(outcome.source, outcome.error[1]))
            bar.update()
    summary.failed = errors.count


def _reason(source: Source, message: str) -> str:
    """One line; the source in front where the message does not name it."""
    text = " ".join(message.split())
    return text if str(source) in text else f"{source}: {text}"
