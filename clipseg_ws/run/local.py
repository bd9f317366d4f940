"""The engine of this process: batches of one grid, decoding and writing in threads around the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.loading import batches_of_a_kind, load_ahead
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.sources import Source
from clipseg_ws.run.job import Job, OnResult
from clipseg_ws.run.summary import Outcome

Fail = Callable[[Source, Exception], None]
Load = Callable[[Source], Picture]


def run_local(
    job: Job, todo: Iterable[Source], workers: int, on_result: OnResult | None = None, load: Load | None = None
) -> Iterator[Outcome]:
    """Carry a job out in this process, threads around it; one outcome a picture. ``load`` replaces ``job.load``."""
    failures: list[Outcome] = []

    def fail(source: Source, error: Exception) -> None:
        failures.append(Outcome.failed(source, error))

    decoded = loaded_batches(todo, load or job.load, fail, job.segmenter.config.batch_size, workers)
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


def loaded_batches(
    sources: Iterable[Source], load: Load, fail: Fail, size: int, workers: int
) -> Iterator[list[tuple[Source, Picture]]]:
    """Pictures of one grid together, at most ``size`` of them, loaded by threads."""
    pictures = load_ahead(sources, load, fail, workers=workers, ahead=4 * size)
    return batches_of_a_kind(pictures, lambda picture: picture.grid, size)


def _segmented(job: Job, batch: list[tuple[Source, Picture]], fail: Fail) -> Iterator[tuple[Source, Segmentation]]:
    """Results of a batch; where the batch fails its pictures are tried one by one."""
    try:
        yield from zip([source for source, _ in batch], job.segment(batch), strict=True)
        return
    except Exception as error:  # whatever it is, one picture never stops the others
        if len(batch) == 1:
            fail(batch[0][0], error)
            return
    for member in batch:
        yield from _segmented(job, [member], fail)
