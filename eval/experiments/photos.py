"""What a model does on photos of animals and people: the rows of ``photos.csv``.

``python -m clipseg_ws.eval.experiments.photos --voc ROOT --model photo -o DIR`` measures every row on VOC's ``val``
(``eval/datasets``: ``voc-animals``), the most important first, one line of ``DIR/photos.csv`` a row as soon as it is
measured. Rows that stand there already, with the same weights, settings and pictures, are kept. ``--rows zero 'few-*'``
chooses; ``--limit`` takes the first pictures or episodes. Several processes may share a DIR, each with rows of its own.

``--choose --small FOLDER`` chooses settings instead, on training pictures set aside for it (``photo_choice.py``), and
writes ``choice.csv`` and ``choice.json``; ``--settings choice.json`` measures with them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from clipseg_ws.eval.datasets.files import DatasetError
from clipseg_ws.eval.experiments import photo_choice
from clipseg_ws.eval.experiments.photo_measure import Models, Photos, Task
from clipseg_ws.eval.experiments.photo_rows import Row, all_rows, chosen_rows
from clipseg_ws.eval.run.identity import commit
from clipseg_ws.eval.tables import read_table, records, write_table
from clipseg_ws.together import locked

CLASSES = ("background", "cat", "cow", "dog", "horse", "person", "sheep")
COLUMNS = (
    "row", "what", "setting", "labels_read", "method", "settings", "mIoU", "sd", *(f"iou_{name}" for name in CLASSES),
    "precision", "recall", "pictures", "failed", "seconds_per_picture", "model", "weights_sha256", "commit", "run_id",
    "command",
)  # fmt: skip
Say = Callable[[str], None]


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns 1 where a row that was chosen by ``--rows`` could not be measured, or none at all."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if (given.small if given.choose else given.voc) is None:
        parser.error("--choose needs --small FOLDER" if given.choose else "--voc ROOT is needed")
    started = monotonic()

    def late() -> bool:
        return given.minutes is not None and monotonic() - started > 60 * given.minutes

    try:
        models = Models(given.model, given.device, given.cache_mb)
        chosen = json.loads(given.settings.read_text("utf-8")) if given.settings else {}
        rows = all_rows(lambda row: models.of(row.with_chosen(chosen)).config)
        asked = given.rows or (photo_choice.DEFAULT_ROWS if given.choose else ())
        rows = [row.with_chosen(chosen) for row in chosen_rows(rows, asked)]
        if given.choose:
            photos = Photos(given.small, "set-aside", given.limit, given.episodes, (0,))
            photo_choice.choose(models, photos, rows, given, _command(given), print, late)
            return 0
        photos = Photos(given.voc, "val", given.limit, given.episodes, tuple(range(given.seeds)))
        lost = measure_rows(models, photos, rows, given.output, _command(given), print, late)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 1 if lost and (given.rows or len(lost) == len(rows)) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voc", type=Path, help="VOC2012 in its official layout")
    parser.add_argument("--small", type=Path, help="small training folder: list.txt, images/, masks/")
    parser.add_argument("--model", default="photo", help="as in clipseg-ws predict --model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW", help="rows or patterns; default: all")
    parser.add_argument("--limit", type=int, help="first pictures, or episodes of a seed")
    parser.add_argument("--episodes", type=int, default=36, help="of a seed")
    parser.add_argument("--seeds", type=int, default=3, help="lists of episodes")
    parser.add_argument("--minutes", type=float, help="after so many nothing further is begun")
    parser.add_argument("--settings", type=Path, help="JSON: row -> settings, as --choose writes it")
    parser.add_argument("--cache-mb", type=int, default=2000, help="tokens kept from row to row, megabytes")
    parser.add_argument("-o", "--output", type=Path, required=True)
    choosing = parser.add_argument_group("--choose")
    choosing.add_argument("--choose", action="store_true", help="choose settings on pictures set aside")
    choosing.add_argument("--grid", nargs="+", default=[], metavar="KEY=[V, W]", help="in place of the row's own grid")
    choosing.add_argument("--margin", type=float, default=0.002, help="least gain for which a setting is changed")
    return parser


def _command(given: argparse.Namespace) -> str:
    """The command without its rows; every line adds its own."""
    where = f"--choose --small {given.small}" if given.choose else f"--voc {given.voc}"
    words = ["python -m clipseg_ws.eval.experiments.photos", where, f"--model {given.model}"]
    if given.limit is not None:
        words.append(f"--limit {given.limit}")
    words += [f"--episodes {given.episodes}"] if given.episodes != 36 else []
    words += [f"--seeds {given.seeds}"] if given.seeds != 3 else []
    words += [f"--settings {given.settings}"] if given.settings else []
    return " ".join([*words, f"-o {given.output}"])


def measure_rows(
    models: Models, photos: Photos, rows: Sequence[Row], out: Path, command: str, say: Say,
    late: Callable[[], bool] = lambda: False,
) -> list[str]:  # fmt: skip
    """Measure what is not in ``out/photos.csv`` yet; returns the keys of rows that are not measured.

    A row that the model has no settings or no stem for is left out, and said; so is what is not begun before ``late``.
    Raises DatasetError where the pictures are not as they should be.
    """
    lost = []
    for row in rows:
        try:
            task = Task(row, photos.load(row, models.known), models.of(row))
            kept = _kept(out / "photos.csv", row, task.run)
            if kept is None and late():
                raise ValueError("the time is up")
            line = kept or _line(task, models, task.measure(out / "runs"), f"{command} --rows {row.key}")
        except DatasetError:
            raise
        except (ValueError, OSError) as error:
            say(f"{row.key}: left out: {error}")
            lost.append(row.key)
            continue
        _put(out / "photos.csv", line)
        say(f"{row.key}: {_told(line)}{' (kept)' if kept else ''}")
    return lost


def _kept(path: Path, row: Row, run: str) -> dict[str, Any] | None:
    """The line of a run that was measured before, for this row or for another that comes to the same."""
    found = [line for line in records(read_table(path, COLUMNS)) if line["run_id"] == run]
    line = next((line for line in found if line["row"] == row.key), found[0] if found else None)
    return None if line is None else line | _about(row)


def _about(row: Row) -> dict[str, Any]:
    settings = " ".join(f"{key}={value}" for key, value in row.given.items())
    return {"row": row.key, "what": row.what, "setting": row.setting, "method": row.method, "settings": settings}


def _line(task: Task, models: Models, found: Mapping[str, Any], command: str) -> dict[str, Any]:
    row = task.row
    ious = {f"iou_{name}": found.get("classes", {}).get(name) for name in CLASSES}
    scores = {key: found.get(key) for key in ("mIoU", "sd", "precision", "recall")}
    return _about(row) | {key: None if v is None else round(v, 4) for key, v in (scores | ious).items()} | {
        "labels_read": found["labels_read"], "pictures": found["pictures"], "failed": found["failed"],
        "seconds_per_picture": round(found["seconds"], 3),
        "model": models.name + (":stem" if row.stem else ""), "weights_sha256": models.digest, "commit": commit(),
        "run_id": task.run, "command": command,
    }  # fmt: skip


def _put(path: Path, line: Mapping[str, Any]) -> None:
    """Put a line in place of that of the same row, model and number of pictures, else last."""
    with locked(path.with_name(f".{path.name}.lock")):  # several processes may share the rows
        lines = records(read_table(path, COLUMNS))
        same = [i for i, old in enumerate(lines) if all(old[k] == str(line[k]) for k in ("row", "model", "pictures"))]
        place = same[0] if same else len(lines)
        lines[place : place + len(same)] = [dict(line)]
        write_table(path, COLUMNS, lines)


def _told(line: Mapping[str, Any]) -> str:
    scores = {key: line[key] for key in ("mIoU", "sd", "precision", "recall") if line[key] not in ("", None)}
    parts = [f"{key} {float(value):.3f}" for key, value in scores.items()]
    failed = f", {line['failed']} failed" if int(line["failed"]) else ""
    return f"{', '.join(parts)}; {line['pictures']} pictures, {float(line['seconds_per_picture']):.2f} s each{failed}"


if __name__ == "__main__":
    raise SystemExit(main())
