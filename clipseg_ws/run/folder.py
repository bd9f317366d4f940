"""Many pictures: batches by grid, decoding and writing in the background, resume, failures, progress, engines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from clipseg_ws.files import ErrorsCsv
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.loading import batches_of_a_kind, load_ahead
from clipseg_ws.pictures.sources import Source
from clipseg_ws.run.job import Finish, Job, Outcome, Summary, Supports, Tags, Weak
from clipseg_ws.segmenter import Segmenter

ENGINES = ("local", "ray")
OnResult = Callable[[Source, Segmentation], None]
Fail = Callable[[Source, Exception], None]
Load = Callable[[Source], Image.Image]


def run_folder(
    segmenter: Segmenter,
    sources: Sequence[Source],
    directory: str | Path,
    *,
    formats: Sequence[str] = ("png", "overlay", "json"),
    overwrite: bool = False,
    tags: Tags | None = None,
    classes: Any = None,
    background: Any = None,
    workers: int = 2,
    on_result: OnResult | None = None,
    weak: Weak | None = None,
    supports: Supports | None = None,
    finish: Finish | None = None,
    errors_file: str | Path | None = None,
    engine: str = "local",
) -> Summary:
    """Segment pictures and write their files; one bad picture never stops the rest.

    Pictures whose files are all there are skipped unless ``overwrite``. Failures go to ``directory/errors.csv`` (image,
    error, message), which a run starts anew; a rerun tries them again. Progress is shown on a terminal only.

    Args:
        sources: of ``list_sources``; sub-folders are mirrored below ``directory``.
        tags: source -> its class names (weak setting); a ValueError of it is that picture's failure.
        classes, background: as for ``Segmenter``. workers: threads that decode, and as many that write.
        on_result: called with every finished picture, in the order in which they finish; by the local engine only.
        weak: source -> its weak labels, instead of ``tags``; ``classes`` are then needed.
        supports: the few setting: a bank, or (local engine only) a function that gives the bank for the next batch;
            without ``classes`` the bank's own labels are looked for.
        finish: last change of a result before it is counted and written; it may write more files (its own business).
        errors_file: instead of ``directory/errors.csv``.
        engine: "local", or "ray": actors on all machines of a Ray cluster (``engine_ray``), same files, same resume.

    Raises:
        ValueError: classes or formats that are wrong for every picture, an unknown engine. ImportError: no Ray here.
    """
    run = find_engine(engine)
    directory = Path(directory).absolute()
    names = tags if tags is None else [n for s in sources for n in _quiet(tags, s)]
    vocabulary = None
    if classes is not None or supports is None:  # otherwise the labels of the supports
        vocabulary = segmenter.vocabulary(classes, background, None if names is None else [names])
    job = Job(segmenter, directory, tuple(formats), vocabulary, tags, weak, finish, supports)
    start = time.perf_counter()
    todo = [source for source in sources if overwrite or not job.is_done(source)]
    summary = Summary(total=len(sources), skipped=len(sources) - len(todo))
    errors_file = directory / "errors.csv" if errors_file is None else Path(errors_file)
    errors_file.unlink(missing_ok=True)
    errors = ErrorsCsv(errors_file)
    with tqdm(total=len(todo), unit="img", disable=None) as bar:
        for outcome in run(job, todo, workers, on_result):
            if outcome.error is None:
                summary.add(outcome)
            else:
                errors.add_line(outcome.source, *outcome.error)
            bar.update()
    summary.failed = errors.count
    summary.seconds = time.perf_counter() - start
    return summary


def find_engine(name: str) -> Callable[[Job, Sequence[Source], int, OnResult | None], Iterator[Outcome]]:
    """The function that carries a job out. Raises ValueError for an unknown name, ImportError where Ray is missing."""
    if name not in ENGINES:
        raise ValueError(f"engine {name!r} is unknown; choose one of {', '.join(ENGINES)}, for example 'local'")
    if name == "ray":
        from clipseg_ws.run.ray_engine import run_ray

        return run_ray
    return run_local


def run_local(
    job: Job, todo: Sequence[Source], workers: int, on_result: OnResult | None = None, load: Load | None = None
) -> Iterator[Outcome]:
    """Carry a job out in this process, threads around it; one outcome a picture. ``load`` replaces ``job.load``."""
    failures: list[Outcome] = []

    def fail(source: Source, error: Exception) -> None:
        failures.append(Outcome.failed(source, error))

    decoded = _batches(job.segmenter, todo, load or job.load, fail, workers)
    writing: deque[Future[Outcome]] = deque()
    with ThreadPoolExecutor(workers) as writers:
        for batch in decoded:
            for source, result in _segmented(job, batch, fail):
                if on_result:  # before the files, which say that the picture is done
                    on_result(source, result)
                writing.append(writers.submit(job.write, source, result))
                while len(writing) > 4 * workers:
                    yield writing.popleft().result()
            yield from failures
            failures.clear()
        while writing:
            yield writing.popleft().result()
    yield from failures


def _quiet(tags: Tags, source: Source) -> Sequence[str]:
    """The tags, or none where they cannot be read: the picture fails in its turn."""
    try:
        return tags(source)
    except ValueError:
        return ()


def _batches(
    segmenter: Segmenter, sources: Sequence[Source], load: Load, fail: Fail, workers: int
) -> Iterator[list[tuple[Source, Image.Image]]]:
    """Pictures of one grid together, loaded by threads."""
    size = segmenter.config.batch_size
    pictures = load_ahead(sources, load, fail, workers=workers, ahead=4 * size)
    return batches_of_a_kind(pictures, lambda picture: segmenter.grid(picture.size), size)


def _segmented(job: Job, batch: list[tuple[Source, Image.Image]], fail: Fail) -> Iterator[tuple[Source, Segmentation]]:
    """Results of a batch; where the batch fails its pictures are tried one by one."""
    try:
        yield from zip([source for source, _ in batch], job.segment(batch), strict=True)
        return
    except (ValueError, RuntimeError, MemoryError) as error:
        if len(batch) == 1:
            fail(batch[0][0], error)
            return
    for member in batch:
        yield from _segmented(job, [member], fail)


def pooled_embeddings(segmenter: Segmenter, sources: Sequence[Source], *, workers: int = 2) -> tuple[Any, list[Source]]:
    """Image embeddings of many pictures, for choosing prompts: ([M, E] float32 on the CPU, the M sources that could be
    read, in order of batches). Pooled as the configuration says ("patch" or "cls").

    Raises ValueError where no picture could be read.
    """
    return _embedded(segmenter, sources, segmenter.embed_images, workers)


def patch_embeddings(segmenter: Segmenter, sources: Sequence[Source], *, workers: int = 2) -> tuple[Any, list[Source]]:
    """Unit patch embeddings of many pictures: ([M, E] float32 on the CPU, the sources that could be read).

    Raises ValueError where no picture could be read.
    """
    return _embedded(segmenter, sources, lambda pictures: segmenter.embed_patches(pictures).flatten(0, 2), workers)


def _embedded(
    segmenter: Segmenter, sources: Sequence[Source], embed: Callable[..., Any], workers: int
) -> tuple[Any, list[Source]]:
    import torch

    kept: list[Source] = []
    rows = []
    decoded = _batches(segmenter, sources, segmenter.prepare, lambda *_: None, workers)
    with tqdm(total=len(sources), unit="img", disable=None) as bar:
        for batch in decoded:
            rows.append(embed([picture for _, picture in batch]).cpu())
            kept += [source for source, _ in batch]
            bar.update(len(batch))
    if not kept:
        raise ValueError(f"none of the {len(sources)} pictures could be read")
    return torch.cat(rows), kept
