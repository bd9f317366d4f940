"""Any number of pictures: a shard of results a unit of pictures, whole or not there; nothing grows on the driver.

Units are streamed, by the local engine one after the other, by Ray in waves over its actors; counts come back. A shard
that is there is kept where it answers the same question about the same pictures; a shard of another question is an
error, since it may have cost days.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clipseg_ws import __version__
from clipseg_ws.files import remove_unfinished
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.output.shards import Row, read_about, row_of, shard_place, write_shard
from clipseg_ws.pictures.objects import is_object_store
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.reading import ImageError, decode_image, read_bytes
from clipseg_ws.pictures.sources import Source, is_url
from clipseg_ws.pictures.units import Unit
from clipseg_ws.run.asked import content_of
from clipseg_ws.run.job import Job
from clipseg_ws.run.local import run_local
from clipseg_ws.run.summary import Outcome
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stages.question import Question

WAVE = 512  # units that Ray has at a time
PAUSES = (1.0, 4.0)  # seconds before a download or an object is tried again


@dataclass
class ShardCounts:
    """What became of one shard, or of all of them. Small, to travel between machines.

    Attributes:
        shards, kept: written now, and there before. done, failed: pictures in them. again: reason -> shards done again.
        refused: the place of a shard of another question. lost: units that ended with their process, or whose file
        could not be read; ``reasons`` has the first of each.
    """

    shards: int = 0
    kept: int = 0
    done: int = 0
    failed: int = 0
    lost: int = 0
    again: Counter[str] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    refused: str = ""
    seconds: float = 0.0

    def add(self, other: ShardCounts) -> None:
        """Sum up; of the reasons the first five stay."""
        for key in ("shards", "kept", "done", "failed", "lost"):
            setattr(self, key, getattr(self, key) + getattr(other, key))
        self.again.update(other.again)
        self.pictures.update(other.pictures)
        self.reasons = (self.reasons + other.reasons)[:5]


@dataclass(frozen=True, kw_only=True)
class ShardJob(Job):
    """A job whose results become rows. ``place``: folder or URI of the shards. ``overwrite``: nothing is kept."""

    place: str
    overwrite: bool = False
    workers: int = 2
    rows: dict[str, Row] = field(default_factory=dict)

    def write(self, source: Source, result: Segmentation) -> Outcome:
        """Keep the row until the shard is written."""
        name = str(source.relative)
        row = row_of(result, name, str(source))
        self.rows[name] = row
        return Outcome(source, None, dict(zip(row.names, row.areas, strict=True)), int(result.labels.size))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without rows."""
        given = {key: value for key, value in vars(self).items() if key not in ("rows", "asked")}
        return partial(ShardJob, **given), ()


def run_sharded(
    segmenter: Segmenter, units: Iterable[Unit], place: str, question: Question, *, overwrite: bool = False,
    workers: int = 2, engine: str = "local",
) -> ShardCounts:  # fmt: skip
    """Segment units of pictures into the shards of a folder or object store.

    Args:
        units: of ``list_units``; read no further than the work has come. place: folder or ``s3://bucket/folder``.
        question: of ``segmenter.ask``. engine: "local" or "ray".

    Raises:
        ValueError: a shard that is there answers another question (not with ``overwrite``).
        ImportError: no pyarrow, or no Ray.
    """
    place = place if is_object_store(place) else str(Path(place).absolute())
    job = ShardJob(
        segmenter=segmenter, directory=Path(), formats=(), question=question, root=os.getcwd(), place=place,
        content=content_of(segmenter, question, {}), overwrite=overwrite, workers=workers,
    )  # fmt: skip
    if not is_object_store(place):
        remove_unfinished(place)
    start, total = time.perf_counter(), ShardCounts()
    run = _on_ray if engine == "ray" else _here
    with tqdm(unit="shard", disable=None) as bar:
        for counts in run(job, iter(units)):
            if counts.refused:
                raise ValueError(
                    f"{counts.refused!r} answers another question ({', '.join(counts.again)}); choose another folder, "
                    "ask the same, or --overwrite to do all shards again"
                )
            total.add(counts)
            bar.set_postfix_str(f"{total.done} pictures, {total.failed} failed", refresh=False)
            bar.update()
    total.seconds = time.perf_counter() - start
    return total


def do_unit(job: ShardJob, unit: Unit) -> ShardCounts:
    """One shard: kept, refused, or made and written."""
    counts, identity = ShardCounts(), unit.identity()
    about = None if job.overwrite else read_about(job.place, unit.number)
    if about is not None:
        if about.get("question") != job.asked:
            differing = _differing(about.get("content"), job.content)
            return ShardCounts(refused=shard_place(job.place, unit.number), again=Counter(differing))
        if about.get("unit") == identity:
            return ShardCounts(kept=1)
        counts.again["pictures changed"] += 1
    try:
        rows = _rows(job, unit, counts)
        failed = sum(row.error is not None for row in rows)
        write_shard(job.place, unit.number, rows, {
            "question": job.asked, "content": job.content, "names": _names(job), "unit": identity,
            "made_of": unit.place or (unit.files[0][0] if unit.files else ""), "failed": failed,
            "model": job.segmenter.backbone.name, "version": __version__,
        })  # fmt: skip
    except (OSError, ValueError) as error:  # the tar or Parquet file, or the place of the shards
        return ShardCounts(lost=1, reasons=[f"shard {unit.number}: {error}"])
    counts.shards, counts.failed, counts.done = 1, failed, len(rows) - failed
    return counts


def _rows(job: ShardJob, unit: Unit, counts: ShardCounts) -> list[Row]:
    """The rows of a unit, in its order; pictures that fail are rows with an error."""
    held: dict[Source, bytes | None] = {}
    order: list[tuple[str, str]] = []
    job.rows.clear()

    def pictures() -> Iterator[Source]:
        for source, data in unit.pictures():
            held[source] = data
            order.append((str(source.relative), str(source)))
            yield source

    def load(source: Source) -> Picture:
        data = held.pop(source)
        return job.prepare(decode_image(_read(job, source) if data is None else data, str(source)), source)

    errors: dict[str, str] = {}
    for outcome in run_local(job, pictures(), job.workers, load=load):
        if outcome.error is not None:
            errors[str(outcome.source.relative)] = ": ".join(outcome.error)
            if len(counts.reasons) < 5:
                counts.reasons.append(f"{outcome.source}: {outcome.error[1]}")
        counts.pictures.update(outcome.pixels.keys())
    lost = "Lost: no result"
    return [
        job.rows.pop(name) if name in job.rows else Row(name, path, errors.get(name, lost)) for name, path in order
    ]


def _read(job: ShardJob, source: Source) -> bytes:
    """The bytes of a picture; over the network it is tried three times. Raises ImageError."""
    location = job.place_of(source)
    for pause in (*(PAUSES if is_url(location) else ()), None):
        try:
            return read_bytes(location)
        except ImageError:
            if pause is None:
                raise
            time.sleep(pause)
    raise AssertionError("unreachable")


def _names(job: ShardJob) -> Sequence[str]:
    assert isinstance(job.question, Question)
    return job.question.vocabulary.names


def _differing(before: Any, now: Mapping[str, Any]) -> list[str]:
    import json

    a, b = before if isinstance(before, dict) else {}, json.loads(json.dumps(now, default=str))
    return sorted(f"other {key}" for key in {*a, *b} if a.get(key) != b.get(key)) or ["another question"]


def _here(job: ShardJob, units: Iterator[Unit]) -> Iterator[ShardCounts]:
    return map(partial(do_unit, job), units)


def _on_ray(job: ShardJob, units: Iterator[Unit]) -> Iterator[ShardCounts]:
    """The same on a Ray cluster, a wave of units at a time."""
    from clipseg_ws.run.ray_pool import stream

    make = partial(_Actor, job, job.segmenter.backbone.weights_sha256)
    while wave := list(islice(units, WAVE)):
        came = 0
        for counts in stream(make, wave, 1, device=str(job.segmenter.recipe["device"])):
            came += 1
            yield counts
        if came < len(wave):
            text = "a worker process ended again and again; the same command tries its shards once more"
            yield ShardCounts(lost=len(wave) - came, reasons=[text])


class _Actor:
    """What an actor holds: the job with its Segmenter, loaded on this machine."""

    def __init__(self, job: ShardJob, weights_sha256: str) -> None:
        here = job.segmenter.backbone.weights_sha256
        if here != weights_sha256:
            raise ValueError(f"this machine has other weights (SHA-256 {here}) than the driver ({weights_sha256})")
        self.do: Callable[[Unit], ShardCounts] = partial(do_unit, job)

    def __call__(self, units: Sequence[Unit]) -> list[ShardCounts]:
        """Counts of a few units."""
        return [self.do(unit) for unit in units]
