"""Many pictures: batches by grid, decoding and writing in the background, resume, failures, progress."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from clipseg_ws.bank import SupportBank
from clipseg_ws.images import read_image
from clipseg_ws.output import ErrorsCsv, output_paths, save
from clipseg_ws.pipeline import Segmenter
from clipseg_ws.sources import Source
from clipseg_ws.structures import Segmentation, WeakLabels

Tags = Callable[[Source], Sequence[str]]
Weak = Callable[[Source], WeakLabels]
Finish = Callable[[Source, Segmentation], Segmentation]
Fail = Callable[[Source, Exception], None]
Extra = Callable[[], dict[str, Any]]  # what every call of the Segmenter gets besides


@dataclass
class Summary:
    """What a run did. ``pixels`` counts labels by name over all pictures done in this run."""

    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
    pixels: Counter = field(default_factory=Counter)
    pictures: Counter = field(default_factory=Counter)

    def add(self, result: Segmentation) -> None:
        """Count one finished picture."""
        self.done += 1
        for name, share in result.shares().items():
            self.pixels[name] += round(share * result.labels.size)
            self.pictures[name] += share > 0


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
    on_result: Callable[[Source, Segmentation], None] | None = None,
    weak: Weak | None = None,
    supports: SupportBank | Callable[[], SupportBank] | None = None,
    finish: Finish | None = None,
    errors_file: str | Path | None = None,
) -> Summary:
    """Segment pictures and write their files; one bad picture never stops the rest.

    Pictures whose files are all there are skipped unless ``overwrite``. Failures go to ``directory/errors.csv`` (image,
    error, message), which a run starts anew; a rerun tries them again. Progress is shown on a terminal only.

    Args:
        sources: of ``list_sources``; sub-folders are mirrored below ``directory``.
        tags: source -> its class names (weak setting); a ValueError of it is that picture's failure.
        classes, background: as for ``Segmenter``. workers: threads that decode, and as many that write.
        on_result: called with every finished picture, in the order in which they finish.
        weak: source -> its weak labels, instead of ``tags``; ``classes`` are then needed.
        supports: the few setting: a bank, or a function that gives the bank for the next batch; without ``classes`` the
            bank's own labels are looked for.
        finish: last change of a result before it is counted and written; it may write more files (its own business).
        errors_file: instead of ``directory/errors.csv``.

    Raises:
        ValueError: classes or formats that are wrong for every picture.
    """
    directory = Path(directory)
    names = tags if tags is None else [n for s in sources for n in _quiet(tags, s)]
    vocabulary = classes
    if classes is not None or supports is None:
        vocabulary = segmenter.vocabulary(classes, background, None if names is None else [names])
    extra = partial(_few, supports)
    start = time.perf_counter()
    todo = [
        s for s in sources if overwrite or not all(p.exists() for p in output_paths(directory, s.relative, formats))
    ]
    summary = Summary(total=len(sources), skipped=len(sources) - len(todo))
    errors_file = directory / "errors.csv" if errors_file is None else Path(errors_file)
    errors_file.unlink(missing_ok=True)
    errors = ErrorsCsv(errors_file)

    def fail(source: Source, error: Exception) -> None:
        errors.add(source, error)

    with tqdm(total=len(todo), unit="img", disable=None) as bar, _Writer(workers, fail) as writer:
        for batch in _batches(segmenter, _decoded(todo, workers, 4 * segmenter.config.batch_size, fail)):
            for source, result in _segmented(segmenter, batch, vocabulary, tags, weak, extra, fail):
                if finish is not None:
                    result = finish(source, result)
                summary.add(result)
                writer.submit(source, partial(save, result, directory, formats=formats, relative=source.relative))
                if on_result:
                    on_result(source, result)
            bar.n = summary.done + errors.count
            bar.refresh()
    summary.done -= writer.failed
    summary.failed = errors.count
    summary.seconds = time.perf_counter() - start
    return summary


def _few(supports: Any) -> dict[str, Any]:
    """The Segmenter's argument for examples, where there are some."""
    return {} if supports is None else {"supports": supports() if callable(supports) else supports}


def _quiet(tags: Tags, source: Source) -> Sequence[str]:
    """The tags, or none where they cannot be read: the picture fails in its turn."""
    try:
        return tags(source)
    except ValueError:
        return ()


def _decoded(sources: Sequence[Source], workers: int, ahead: int, fail: Fail) -> Iterator[tuple[Source, Image.Image]]:
    """Pictures in order, decoded by threads that stay at most ``ahead`` pictures in front."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[tuple[Source, Future]] = []
        upcoming = iter(sources)
        while True:
            while len(waiting) < ahead and (source := next(upcoming, None)) is not None:
                waiting.append((source, pool.submit(read_image, source)))
            if not waiting:
                return
            source, future = waiting.pop(0)
            try:
                yield source, future.result()
            except ValueError as error:  # ImageError: names the file and the reason
                fail(source, error)


def _batches(
    segmenter: Segmenter, pictures: Iterator[tuple[Source, Image.Image]]
) -> Iterator[list[tuple[Source, Image.Image]]]:
    """Pictures of one grid together; at most four batches wait, then the fullest goes as it is."""
    size = segmenter.config.batch_size
    groups: dict[tuple[int, int], list[tuple[Source, Image.Image]]] = {}
    for source, picture in pictures:
        grid = segmenter.grid(picture.size)
        groups.setdefault(grid, []).append((source, picture))
        if len(groups[grid]) == size:
            yield groups.pop(grid)
        elif sum(map(len, groups.values())) >= 4 * size:
            yield groups.pop(max(groups, key=lambda g: len(groups[g])))
    yield from groups.values()


def _segmented(
    segmenter: Segmenter,
    batch: list[tuple[Source, Image.Image]],
    vocabulary: Any,
    tags: Tags | None,
    weak: Weak | None,
    extra: Extra,
    fail: Fail,
) -> Iterator[tuple[Source, Segmentation]]:
    """Results of a batch; where the batch fails its pictures are tried one by one."""

    def run(members: list[tuple[Source, Image.Image]]) -> list[Segmentation]:
        names = None if tags is None else [tags(source) for source, _ in members]
        marks = None if weak is None else [weak(source) for source, _ in members]
        pictures = [picture for _, picture in members]
        results = segmenter(pictures, classes=vocabulary, tags=names, weak=marks, **extra())
        return [replace(r, source=str(s)) for (s, _), r in zip(members, results, strict=True)]  # type: ignore[arg-type]

    try:
        yield from zip([source for source, _ in batch], run(batch), strict=True)
        return
    except (ValueError, RuntimeError) as error:
        if len(batch) == 1:
            fail(batch[0][0], error)
            return
    for member in batch:
        try:
            result = run([member])[0]
        except (ValueError, RuntimeError) as error:
            fail(member[0], error)
        else:
            yield member[0], result


class _Writer:
    """Writes in threads, at most a few results ahead; failures are counted and reported, not raised."""

    def __init__(self, workers: int, fail: Fail) -> None:
        self._pool = ThreadPoolExecutor(workers)
        self._limit = 4 * workers
        self._fail = fail
        self._pending: list[tuple[Source, Future]] = []
        self.failed = 0

    def submit(self, source: Source, job: Callable[[], object]) -> None:
        self._pending.append((source, self._pool.submit(job)))
        while len(self._pending) > self._limit:
            self._collect()

    def _collect(self) -> None:
        source, future = self._pending.pop(0)
        try:
            future.result()
        except (OSError, ValueError) as error:
            self.failed += 1
            self._fail(source, error)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        while self._pending:
            self._collect()
        self._pool.shutdown()


def pooled_embeddings(segmenter: Segmenter, sources: Sequence[Source], *, workers: int = 2) -> tuple[Any, list[Source]]:
    """Image embeddings of many pictures, for choosing prompts: ([M, E] float32 on the CPU, the M sources that could be
    read, in order of batches). Pooled as the configuration says ("patch" or "cls").

    Raises ValueError where no picture could be read.
    """
    import torch

    kept: list[Source] = []
    rows = []
    decoded = _decoded(sources, workers, 4 * segmenter.config.batch_size, lambda *_: None)
    with tqdm(total=len(sources), unit="img", disable=None) as bar:
        for batch in _batches(segmenter, decoded):
            rows.append(segmenter.embed_images([picture for _, picture in batch]).cpu())
            kept += [source for source, _ in batch]
            bar.update(len(batch))
    if not kept:
        raise ValueError(f"none of the {len(sources)} pictures could be read")
    return torch.cat(rows), kept
