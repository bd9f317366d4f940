"""The report: runs beside the published numbers of the same data set and setting, and what makes them incomparable."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from clipseg_ws.eval.datasets.registry import AVG8
from clipseg_ws.eval.report import plots
from clipseg_ws.eval.report.pages import Block, Heading, Picture, Table, Text, Warnings, markdown, page
from clipseg_ws.eval.report.published import Published, against_presets, means, same_task, warnings
from clipseg_ws.eval.store import COLUMNS, read_table
from clipseg_ws.files import write_text

HEADER = (
    "method",
    "backbone",
    "split",
    "mIoU",
    "pixel acc.",
    "FB-IoU",
    "boundary IoU",
    "pictures",
    "read",
    "task, source",
)
NO_PLOTS = "Bars and curves need matplotlib: pip install 'clipseg_ws[plots]'"
MOST_BARS = 8  # runs in one chart


def write_report(results: str | Path, output: str | Path | None = None) -> tuple[Path, Path]:
    """Write report.md and report.html (self-contained) for a results folder into ``output`` (default: the same folder).

    Raises FileNotFoundError where there is no results.csv, ValueError where it has other columns.
    """
    results = Path(results)
    folder = Path(output) if output is not None else results
    if not (results / "results.csv").is_file():
        raise FileNotFoundError(
            f"no results.csv in {str(results)!r}; it is written by e.g. clipseg-ws eval scenes -o {results}"
        )
    rows = read_table(results / "results.csv", COLUMNS)
    whole = [*rows, *means(rows, AVG8)]
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in whole:
        groups.setdefault((row["dataset"], row["setting"]), []).append(row)
    blocks: list[Block] = [Heading("Evaluation report", 1), Text(_opening(rows))]
    if not plots.available():
        blocks.append(Text(NO_PLOTS))
    for (dataset, setting), members in sorted(groups.items()):
        blocks += _group(results, folder / "report_files", dataset, setting, members)
    paths = folder / "report.md", folder / "report.html"
    write_text(paths[0], markdown(blocks, folder))
    write_text(paths[1], page(blocks, "clipseg_ws evaluation"))
    return paths


def _opening(rows: Sequence[dict[str, str]]) -> str:
    return (
        f"{len(rows)} runs. Scores in percent. A number is only comparable with another of the same data, split, "
        f"setting and protocol; the warnings below each table name the differences. Runs are set off, the rest is "
        f"published."
    )


def _group(results: Path, files: Path, dataset: str, setting: str, rows: Sequence[dict[str, str]]) -> list[Block]:
    """Everything about one data set in one setting."""
    published = () if setting == "oracle" else same_task(dataset, setting)
    ordered = sorted(rows, key=lambda row: -float(row["mIoU"] or 0))
    labels = _labels(ordered)
    blocks: list[Block] = [Heading(f"{dataset}, setting {setting}"), _table(ordered, labels, published)]
    cautions = []
    for row, label in zip(ordered, labels, strict=True):
        config = _config(results, row["run_id"])
        cautions += [f"{label}: {line}" for line in warnings(row, config, published)]
        cautions += [f"{label}: differs from {line}" for line in against_presets(row, published)]
    if cautions:
        blocks.append(Warnings(cautions))
    own = {row["run_id"]: label for row, label in zip(ordered, labels, strict=True) if row["run_id"]}
    stem = f"{dataset}_{setting}"
    blocks += _sweeps(results, files / f"{stem}_thresholds.png", own)
    blocks += _classes(results, files / f"{stem}_classes.png", own)
    for run, label in own.items():
        blocks += _gallery(results, files, run, label)
    return blocks


def _labels(rows: Sequence[dict[str, str]]) -> list[str]:
    """A name a run: the method, with the end of the run's id where several runs share it."""
    names = [f"{row['method']}{' fold ' + row['fold'] if row['fold'] else ''}" for row in rows]
    return [
        name if names.count(name) == 1 else f"{name} {row['run_id'][-4:] or row['split']}"
        for name, row in zip(names, rows, strict=True)
    ]


def _percent(text: str) -> str:
    return f"{100 * float(text):.2f}" if text else ""


def _table(rows: Sequence[dict[str, str]], labels: Sequence[str], published: Sequence[Published]) -> Table:
    lines: list[tuple[float, bool, list[str]]] = []
    for row, label in zip(rows, labels, strict=True):
        scores = [_percent(row[key]) for key in ("mIoU", "pixel_accuracy", "fb_iou", "boundary_iou")]
        split = f"{row['split']}{', fold ' + row['fold'] if row['fold'] else ''}"
        model = row["backbone"] if row["backbone"] == row["weights"] else f"{row['backbone']} {row['weights']}".strip()
        cells = [label, model, split, *scores, row["n_images"], row["labels_read"], f"this run, {row['commit']}"]
        lines.append((100 * float(row["mIoU"] or 0), True, cells))
    for p in published:
        method = p.method + (f" with {p.extra_models}" if p.extra_models else "")
        lines.append(
            (p.value, False, [method, p.backbone, p.split, f"{p.value:.2f}", *[""] * 5, f"{p.task}, {p.source}"])
        )
    lines.sort(key=lambda line: -line[0])
    return Table(HEADER, [cells for *_, cells in lines], frozenset(i for i, line in enumerate(lines) if line[1]))


def _config(results: Path, run: str) -> dict[str, Any]:
    path = results / "configs" / f"{run}.yaml"
    return yaml.safe_load(path.read_text("utf-8")) if run and path.is_file() else {}


def _sweeps(results: Path, path: Path, own: dict[str, str]) -> list[Block]:
    """Best background and fixed default of every run that was swept, and the curves."""
    swept: dict[str, list[dict[str, str]]] = {}
    for entry in read_table(results / "thresholds.csv"):
        if entry["run_id"] in own and entry["mIoU"]:
            swept.setdefault(entry["run_id"], []).append(entry)
    if not swept:
        return []
    fixed = {row["run_id"]: row for row in read_table(results / "results.csv")}
    lines, curves = [], {}
    for run, entries in swept.items():
        best = max(entries, key=lambda entry: float(entry["mIoU"]))
        powers = ", ".join(f"{float(e['value']):g}: {_percent(e['mIoU'])}" for e in entries if e["kind"] == "power")
        kind = "constant" if best["kind"] == "threshold" else "power"
        default = f"{_percent(fixed[run]['mIoU'])} at {fixed[run]['threshold']}"
        lines.append([own[run], default, f"{_percent(best['mIoU'])} at {kind} {float(best['value']):g}", powers])
        curves[own[run]] = [(float(e["value"]), float(e["mIoU"])) for e in entries if e["kind"] == "threshold"]
    header = ("background swept in one pass", "fixed default", "swept best", "mIoU at the powers")
    blocks: list[Block] = [Table(header, lines)]
    if plots.available():
        blocks.append(Picture(plots.threshold_curves(path, curves), "mIoU over the background threshold"))
    return blocks


def _classes(results: Path, path: Path, own: dict[str, str]) -> list[Block]:
    """IoU per class: a table, and bars."""
    values: dict[str, dict[str, str]] = {run: {} for run in own}
    for entry in read_table(results / "per_class.csv"):
        if entry["run_id"] in own:
            values[entry["run_id"]][entry["class"]] = entry["iou"]
    runs = [run for run in own if values[run]]
    classes = list(dict.fromkeys(name for run in runs for name in values[run]))
    if not classes:
        return []
    rows = [[name, *(_percent(values[run].get(name, "")) for run in runs)] for name in classes]
    blocks: list[Block] = [Table(("class", *(own[run] for run in runs)), rows, fold="IoU per class")]
    if plots.available():
        shown = {own[run]: [float(values[run].get(name) or "nan") for name in classes] for run in runs[:MOST_BARS]}
        blocks.insert(0, Picture(plots.class_bars(path, classes, shown), "IoU per class"))
    return blocks


def _gallery(results: Path, files: Path, run: str, label: str) -> list[Block]:
    """Worst and best pictures of a run: picture, truth, prediction."""
    found = sorted((results / "gallery" / run).glob("*.jpg"), key=lambda p: (p.name.startswith("best"), _rank(p)))
    blocks: list[Block] = [Heading(f"{label}: worst and best pictures", 3)] if found else []
    for path in found:
        target = files / run / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        kind, value, id = path.stem.split("_", 2)
        title = f"{kind.replace('-', ' ')}: {id}, IoU {100 * float(value):.1f} (picture, truth, prediction)"
        blocks.append(Picture(target, title))
    return blocks


def _rank(path: Path) -> int:
    return int(path.stem.split("_")[0].split("-")[1])
