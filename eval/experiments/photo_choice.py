"""Choosing settings on pictures set aside: one setting after the other, the best value kept (coordinate search).

Every row starts with the settings that the model recommends, and those of ``--settings``. A value is taken where it
gains at least ``--margin``; what a method does not read is left out and said. ``choice.csv`` holds every value that was
tried, once; a run that was killed goes on after the last one. ``choice.json`` holds what was taken: row -> settings,
for ``--settings`` and for the model's card.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clipseg_ws.config import parse_settings
from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.experiments.photo_measure import Models, Photos, Task
from clipseg_ws.eval.experiments.photo_rows import Row
from clipseg_ws.eval.tables import read_table, records, write_table
from clipseg_ws.files import atomic_write
from clipseg_ws.registry import split_outside
from clipseg_ws.together import locked

Grid = Mapping[str, Sequence[Any]]
COLUMNS = (
    "row", "setting", "value", "beside", "measure", "score", "gain", "taken", "pictures", "seconds_per_picture",
    "model", "weights_sha256", "run_id", "command",
)  # fmt: skip
DEFAULT_ROWS = ("cam", "dense", "weak", "zero", "presence", "few-1", "few-1-name")
_MAPS: Grid = {
    "short_side": (224, 320, 384, 448),
    "activation": ("fused", "dense", "gradcam"),
    "background_rule": ("power", "prompts"),
    "alpha": (1, 2, 3, 4, 6),
    "affinity": (True, False),
    "affinity.threshold": (0.2, 0.4, 0.6),
    "competition": (False, 0.25, 0.5),
    "refine": ("none", "guided", "par(max_side=250)"),
}
GRIDS: Mapping[str, Grid] = {  # by row; of other rows that of the first one whose key they begin with
    "cam": {"alpha": (1, 2, 3, 4, 6), "pool": ("patch", "cls"), "short_side": (224, 320, 384, 448),
            "affinity.threshold": (0.2, 0.4, 0.6), "attention_blocks": (1, 2, 3)},
    "dense": {"background_rule": ("power", "prompts"), "alpha": (0.5, 1, 2, 3), "short_side": (224, 320, 384, 448)},
    "weak-few": {"fewshot.text_weight": (0.3, 0.5, 0.7, 0.9)},
    "weak": _MAPS,
    "zero": {"presence_threshold": (0.15, 0.2, 0.25, 0.3, 0.4, 0.5), **_MAPS},
    "presence": {"presence_threshold": (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)},
    "few-1-name": {"fewshot.text_weight": (0.2, 0.3, 0.5, 0.7, 0.9)},
    "few-5-name": {"fewshot.text_weight": (0.2, 0.3, 0.5, 0.7, 0.9)},
    "few": {"fewshot.refit": ("none", "prototypes", "classifier"), "fewshot.prior": (0.0, 0.3, 0.6),
            "fewshot.kinds": (["input"], ["values"], ["input", "values"]),
            "background_rule": ("power", "prompts"), "alpha": (0.5, 1, 2, 4),
            "affinity": (True, False), "affinity.threshold": (0.2, 0.4, 0.6),
            "fewshot.presence_threshold": (0.0, 0.2, 0.4), "refine": ("none", "guided", "par(max_side=250)")},
    "boxes": {"alpha": (1, 2, 4), "refine": ("none", "guided", "par(max_side=250)")},
    "points": {"alpha": (1, 2, 4), "refine": ("none", "guided", "par(max_side=250)")},
}  # fmt: skip


def choose(
    models: Models, photos: Photos, rows: Sequence[Row], given: argparse.Namespace, command: str,
    say: Callable[[str], None], late: Callable[[], bool] = lambda: False,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Choose for every row and write the two files; row -> settings that were taken.

    ``given``: grid, margin, output. ``late``: whether nothing further may be begun. Raises ValueError for a row
    without a grid, or a grid that is no KEY=[values].
    """
    own = read_grid(given.grid)
    taken: dict[str, dict[str, Any]] = {}
    for row in rows:
        start = row if row.chosen else row.with_chosen(taken)  # of its base, chosen a moment ago
        search = Search(models, photos, start, given.output, f"{command} --rows {row.key}", say, late)
        taken[row.key] = search.run(own or grid_of(row), given.margin)
        path = given.output / "choice.json"
        before = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(before | taken, indent=1) + "\n", "utf-8")
    return taken


def read_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """["alpha=[1, 2]"] -> {"alpha": [1, 2]}. Raises ValueError where no list is given."""
    grid = parse_settings(texts, "--grid ", "--grid 'alpha=[1, 2]'")
    grid = {k: _texts(v) if isinstance(v, str) else v for k, v in grid.items()}
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ValueError(f"--grid {key}={values!r}: a list of values is needed, for example 'alpha=[1, 2]'")
    return grid


def _texts(value: str) -> Any:
    """The parts of "[none, par(max_side=250)]", which ``parse_settings`` leaves alone for refine and steps."""
    return split_outside(value[1:-1], ",") if value.startswith("[") and value.endswith("]") else value


def grid_of(row: Row) -> Grid:
    """The grid of a row. Raises ValueError where there is none."""
    for key in (row.key, *GRIDS):
        if key in GRIDS and row.key.startswith(key):
            return GRIDS[key]
    raise ValueError(f"no grid for the row {row.key!r}; give one, for example --grid 'alpha=[1, 2]'")


@dataclass
class Search:
    """The search for one row; every value that was tried is a line of ``choice.csv``."""

    models: Models
    photos: Photos
    row: Row
    out: Path
    command: str
    say: Callable[[str], None]
    late: Callable[[], bool]

    def run(self, grid: Grid, margin: float) -> dict[str, Any]:
        """The settings that were taken, with those that the row started with."""
        taken = dict(self.row.chosen)
        best = start = self._score("", None, taken, None)
        if start is None or best is None:
            return taken
        for key, values in grid.items():
            if key in self.row.settings:
                continue  # what the row is about
            scores = {i: self._score(key, value, taken, best) for i, value in enumerate(values)}
            found = {i: score for i, score in scores.items() if score is not None}
            top = max(found, key=lambda i: found[i], default=None)
            if top is not None and found[top] >= best + margin:
                best, taken[key] = found[top], values[top]
                self._mark(key, values[top])
        self.say(f"{self.row.key}: {start:.4f} -> {best:.4f} with {taken or 'what is recommended'}")
        return taken

    def _score(self, key: str, value: Any, taken: Mapping[str, Any], best: float | None) -> float | None:
        """mIoU (of presence F1) with one more setting, None where it cannot be measured."""
        row = replace(self.row, chosen=dict(taken) | ({key: value} if key else {}))
        try:
            task = Task(row, self.photos.load(row, self.models.known), self.models.of(row))
            line = self._find(task.run)
            if line is None and self.late():
                raise ValueError("the time is up")
            line = self._line(key, value, taken, task, best) if line is None else line
        except DatasetError:
            raise
        except (ValueError, OSError) as error:
            self.say(f"{self.row.key}: {key}={value} left out: {error}")
            return None
        self.say(f"{self.row.key}: {key or 'start'}{f'={value}' if key else ''} {line['measure']} {line['score']}")
        return float(line["score"])

    def _line(self, key: str, value: Any, taken: Mapping[str, Any], task: Task, best: float | None) -> dict[str, Any]:
        """Measure and write a line."""
        found = task.measure(self.out / "runs")
        score = found.get("mIoU")
        if score is None:
            total = found["precision"] + found["recall"]
            score = 2 * found["precision"] * found["recall"] / total if total else 0.0
        line = {
            "row": self.row.key, "setting": key, "value": "" if key == "" else value,
            "beside": " ".join(f"{k}={v}" for k, v in taken.items()), "measure": "F1" if task.row.presence else "mIoU",
            "score": round(score, 4), "gain": "" if best is None else round(score - best, 4), "taken": "",
            "pictures": found["pictures"], "seconds_per_picture": round(found["seconds"], 3),
            "model": self.models.name, "weights_sha256": self.models.digest, "run_id": task.run,
            "command": self.command,
        }  # fmt: skip
        with self._table() as lines:
            lines.append(line)
        return line

    def _find(self, run: str) -> dict[str, Any] | None:
        """The line of what was tried before."""
        return next((line for line in records(read_table(self._path, COLUMNS)) if line["run_id"] == run), None)

    def _mark(self, key: str, value: Any) -> None:
        """Note that a value was taken."""
        with self._table() as lines:
            for line in lines:
                if line["row"] == self.row.key and line["setting"] == key:
                    line["taken"] = "yes" if line["value"] == str(value) else ""

    @property
    def _path(self) -> Path:
        return self.out / "choice.csv"

    @contextmanager
    def _table(self) -> Iterator[list[dict[str, Any]]]:
        """The lines, to be changed; several processes may share the rows."""
        with locked(self.out / ".choice.csv.lock"):
            lines = records(read_table(self._path, COLUMNS))
            yield lines
            write_table(self._path, COLUMNS, lines)
