"""Label maps made from official annotations, where the usual evaluation layout is not the official one. Idempotent:
what is already there stays (``overwrite`` makes it anew), and a file is whole or not there at all.

What is made from what stands in each data set's file; ``PREPARATIONS`` lists the tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from tqdm import tqdm

from clipseg_ws.door.plain import user_path
from clipseg_ws.eval.datasets import PREPARATIONS
from clipseg_ws.output.formats.png import write_label_png

Jobs = list[tuple[Path, Callable[[], np.ndarray]]]  # (label map to write, what makes its labels [H, W] uint8)
Maps = list[tuple[str, Callable[[], np.ndarray]]]  # (picture's stem, the same)
Plan = tuple[Jobs, Callable[[], None]]  # the jobs, and what is written after them


@dataclass(frozen=True)
class Prepared:
    """What a preparation did: files ``made``, files that were already there (``kept``), and the folder(s)."""

    made: int
    kept: int
    folders: tuple[str, ...]


def prepare(
    task: str, root: str | Path, *, source: str | Path | None = None, overwrite: bool = False, workers: int = 2
) -> Prepared:
    """Make the label maps of ``task`` (of ``PREPARATIONS``) below ``root``.

    ``source``: SBD's folder or a folder of ready masks (voc-aug), "stuffthingmaps" or "instances" (coco-object), the
    folder of .mat files or the JSON (context). Raises ValueError for an unknown task, DatasetError for missing
    annotations (with the expected tree), ImportError where pycocotools is needed and absent.
    """
    if task not in PREPARATIONS:
        raise ValueError(f"unknown preparation {task!r}; choose from {', '.join(PREPARATIONS)}")
    module, _, name = PREPARATIONS[task].partition(":")
    plan: Callable[[Path, str | Path | None], Plan] = getattr(import_module(module), name)
    jobs, finish = plan(user_path(root), source)
    waiting = [(path, make) for path, make in jobs if overwrite or not path.exists()]
    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(lambda job: write_label_png(job[1](), job[0]), waiting)
        for _ in tqdm(done, total=len(waiting), desc=task, unit="mask", disable=None):
            pass
    finish()
    folders = tuple(sorted({str(path.parent) for path, _ in jobs}))
    return Prepared(len(waiting), len(jobs) - len(waiting), folders)


def no_lists() -> None:
    """Of a plan that writes label maps only."""
