"""Folders and data sets: jobs, resuming, engines, tracking, pseudo masks, training on them.

``ENGINES`` lists who carries a job out: functions ``(job, sources, workers, on_result)`` -> one ``job.Outcome`` a
picture. Importing this package imports no torch.
"""

from __future__ import annotations

from clipseg_ws.registry import Entry, registry

ENGINES: dict[str, Entry] = registry(
    Entry("local", "this process, threads around it", "clipseg_ws.run.local:run_local"),
    Entry("ray", "actors on all machines of a Ray cluster", "clipseg_ws.run.ray_engine:run_ray", needs=("ray", "ray")),
)
