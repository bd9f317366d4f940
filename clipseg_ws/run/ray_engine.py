"""Many machines: the same jobs on a Ray cluster, by Ray Data (extra ``ray``). No scheduler of our own.

Ray Data's tasks read the files, its pool of actors, each with one Segmenter, decodes, segments and writes; what comes
back to the driver is one small record a picture. An actor runs the same code as the local engine, so the files are the
same. Input and output folders must be visible from every node under the same path (or the input be http or object
storage). With GPUs in the cluster an actor takes a whole GPU, without a core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from functools import partial

from clipseg_ws.pictures.picture import Picture
from clipseg_ws.pictures.reading import ImageError, decode_image, read_bytes
from clipseg_ws.pictures.sources import Source, is_url
from clipseg_ws.run.job import Job, OnResult
from clipseg_ws.run.local import run_local
from clipseg_ws.run.ray_pool import stream
from clipseg_ws.run.summary import Outcome

PAUSES = (1.0, 4.0)  # seconds before a download or an object is tried again


def run_ray(job: Job, todo: Sequence[Source], workers: int, on_result: OnResult | None = None) -> Iterator[Outcome]:
    """Carry a job out on the cluster; one outcome a picture, in the order in which they finish.

    Reading over the network is tried three times. What then failed for another reason than a damaged file, or was lost
    with its actor, is tried once more by itself at the end before it is yielded as failed. ``on_result`` is never
    called: results stay where they were made.
    """
    ended = ("WorkerDied", "the worker process ended while it had this picture")
    rest = {source: Outcome(source, ended) for source in todo}
    make = partial(_Segmenting, job, workers, job.segmenter.backbone.weights_sha256)
    device, read = str(job.segmenter.recipe["device"]), partial(_read, os.getcwd())
    for batch_size in (4 * job.segmenter.config.batch_size, 1):
        for outcome in stream(make, list(rest), batch_size, device=device, read=read) if rest else ():
            rest[outcome.source] = outcome
            if outcome.error is None or outcome.error[0] == ImageError.__name__:
                yield rest.pop(outcome.source)
    yield from rest.values()


class _Segmenting:
    """What an actor holds: the job with its question and its Segmenter, loaded on this machine."""

    def __init__(self, job: Job, workers: int, weights_sha256: str) -> None:
        self.job, self.workers = job, workers
        here = job.segmenter.backbone.weights_sha256
        if here != weights_sha256:
            raise ValueError(f"this machine has other weights (SHA-256 {here}) than the driver ({weights_sha256})")

    def __call__(self, items: Sequence[tuple[Source, bytes | Exception]]) -> list[Outcome]:
        """Outcomes of a few pictures that were read already."""
        contents = dict(items)

        def load(source: Source) -> Picture:
            data = contents[source]
            if isinstance(data, Exception):
                raise data
            return self.job.prepare(decode_image(data, str(source)), source)

        return list(run_local(self.job, list(contents), self.workers, load=load))


def _read(folder: str, source: Source) -> tuple[Source, bytes | Exception]:
    """In a task beside the actors: disk, network and object storage overlap with the model; paths are of ``folder``."""
    remote = is_url(str(source))
    for pause in (*(PAUSES if remote else ()), None):
        try:
            return source, read_bytes(str(source) if remote else os.path.join(folder, str(source)))
        except ImageError as error:
            if pause is None:
                return source, error
            time.sleep(pause)
    raise AssertionError("unreachable")
