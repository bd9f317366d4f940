"""The report: runs beside the published numbers of the same data set and setting, and what makes them incomparable."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from clipseg_ws.door.documents import read_yaml
from clipseg_ws.eval.datasets import AVG8
from clipseg_ws.eval.report import plots
from clipseg_ws.eval.report.pages import Block, Heading, Picture, Table, Text, Warnings, markdown, page
from clipseg_ws.eval.report.published import against_presets, means, same_task, warnings
from clipseg_ws.eval.tables import CLASS_COLUMNS, COLUMNS, SWEEP_COLUMNS, read_table, records
from clipseg_ws.files import file_name, write_text

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
    whole = pd.concat([rows, means(rows, AVG8)], ignore_index=True)
    blocks: list[Block] = [Heading("Evaluation report", 1), Text(_opening(len(rows)))]
    if not plots.available():
        blocks.append(Text(NO_PLOTS))
    for (dataset, setting), members in whole.groupby(["dataset", "setting"]):
        blocks += _group(results, folder / "report_files", str(dataset), str(setting), members)
    paths = folder / "report.md", folder / "report.html"
    write_text(paths[0], markdown(blocks, folder))
    write_text(paths[1], page(blocks, "clipseg_ws evaluation"))
    return paths


def _opening(count: int) -> str:
    return (
        f"{count} runs. Scores in percent. A number is only comparable with another of the same data, split, "
        f"setting and protocol; the warnings below each table name the differences. Runs are set off, the rest is "
        f"published."
    )


def _group(results: Path, files: Path, dataset: str, setting: str, rows: pd.DataFrame) -> list[Block]:
    """Everything about one data set in one setting."""
    published = same_task(dataset, setting)
    if setting == "oracle":
        published = published[:0]
    score = pd.to_numeric(rows["mIoU"]).fillna(0)
    rows = rows.assign(score=score).sort_values("score", ascending=False, kind="stable")
    rows["label"] = _labels(rows)
    blocks: list[Block] = [Heading(f"{dataset}, setting {setting}"), _table(rows, published)]
    cautions = []
    for row in records(rows):
        config = _config(results, row["run_id"])
        cautions += [f"{row['label']}: {line}" for line in warnings(row, config, published)]
        cautions += [f"{row['label']}: differs from {line}" for line in against_presets(row, published)]
    if cautions:
        blocks.append(Warnings(cautions))
    own = rows[rows["run_id"] != ""].set_index("run_id")
    stem = file_name(f"{dataset}_{setting}")
    blocks += _sweeps(results, files / f"{stem}_thresholds.png", own)
    blocks += _classes(results, files / f"{stem}_classes.png", own["label"])
    for run, label in own["label"].items():
        blocks += _gallery(results, files, str(run), label)
    return blocks


def _labels(rows: pd.DataFrame) -> pd.Series[str]:
    """A name a run: the method, with the end of the run's id where several runs share it."""
    names = rows["method"] + (" fold " + rows["fold"]).where(rows["fold"] != "", "")
    ending = rows["run_id"].str[-4:]
    ending = ending.where(ending != "", rows["split"])
    return names.where(~names.duplicated(keep=False), names + " " + ending)


def _percent(text: str) -> str:
    return f"{100 * float(text):.2f}" if text else ""


def _table(rows: pd.DataFrame, published: pd.DataFrame) -> Table:
    """Runs and published numbers in one table, best first."""
    lines: list[tuple[float, bool, list[str]]] = []
    for row in records(rows):
        scores = [_percent(row[key]) for key in ("mIoU", "pixel_accuracy", "fb_iou", "boundary_iou")]
        split = f"{row['split']}{', fold ' + row['fold'] if row['fold'] else ''}"
        model = row["backbone"] if row["backbone"] == row["weights"] else f"{row['backbone']} {row['weights']}".strip()
        cells = [row["label"], model, split, *scores, row["n_images"], row["labels_read"], f"this run, {row['commit']}"]
        lines.append((100 * row["score"], True, cells))
    for p in records(published):
        method = p["method"] + (f" with {p['extra_models']}" if p["extra_models"] else "")
        cells = [method, p["backbone"], p["split"], f"{p['value']:.2f}", *[""] * 5, f"{p['task']}, {p['source']}"]
        lines.append((p["value"], False, cells))
    lines.sort(key=lambda line: -line[0])
    return Table(HEADER, [cells for *_, cells in lines], frozenset(i for i, line in enumerate(lines) if line[1]))


def _config(results: Path, run: str) -> dict[str, Any]:
    path = results / "configs" / f"{file_name(run)}.yaml"
    config: dict[str, Any] = read_yaml(path) if run and path.is_file() else {}
    return config


def _sweeps(results: Path, path: Path, own: pd.DataFrame) -> list[Block]:
    """Best background and fixed default of every run that was swept, and the curves."""
    swept = read_table(results / "thresholds.csv", SWEEP_COLUMNS)
    swept = swept[swept["run_id"].isin(own.index) & (swept["mIoU"] != "")].astype({"value": float, "mIoU": float})
    if swept.empty:
        return []
    lines, curves = [], {}
    fixed = {row["run_id"]: row for row in records(own.reset_index())}
    for run, entries in swept.groupby("run_id", sort=False):
        label = fixed[run]["label"]
        best = entries.iloc[int(entries["mIoU"].to_numpy().argmax())]
        kind = "constant" if best["kind"] == "threshold" else "power"
        points = {name: [*zip(part["value"], part["mIoU"], strict=True)] for name, part in entries.groupby("kind")}
        powers = ", ".join(f"{value:g}: {100 * score:.2f}" for value, score in points.get("power", ()))
        default = f"{_percent(fixed[run]['mIoU'])} at {fixed[run]['threshold']}"
        lines.append([label, default, f"{100 * best['mIoU']:.2f} at {kind} {best['value']:g}", powers])
        curves[label] = points.get("threshold", [])
    header = ("background swept in one pass", "fixed default", "swept best", "mIoU at the powers")
    blocks: list[Block] = [Table(header, lines)]
    if plots.available():
        blocks.append(Picture(plots.threshold_curves(path, curves), "mIoU over the background threshold"))
    return blocks


def _classes(results: Path, path: Path, labels: pd.Series[str]) -> list[Block]:
    """IoU per class: a table, and bars."""
    entries = read_table(results / "per_class.csv", CLASS_COLUMNS)
    entries = entries[entries["run_id"].isin(labels.index)]
    if entries.empty:
        return []
    runs = [run for run in labels.index if (entries["run_id"] == run).any()]
    classes = pd.concat([entries.loc[entries["run_id"] == run, "class"] for run in runs]).unique()
    entries = entries.drop_duplicates(["run_id", "class"], keep="last")
    table = entries.pivot(index="class", columns="run_id", values="iou").reindex(index=classes, columns=runs).fillna("")
    rows = [[str(name), *map(_percent, values)] for name, values in zip(classes, table.to_numpy(), strict=True)]
    blocks: list[Block] = [Table(("class", *labels[runs]), rows, fold="IoU per class")]
    if plots.available():
        shown = {labels[run]: pd.to_numeric(table[run]).tolist() for run in runs[:MOST_BARS]}
        blocks.insert(0, Picture(plots.class_bars(path, classes.tolist(), shown), "IoU per class"))
    return blocks


def _gallery(results: Path, files: Path, run: str, label: str) -> list[Block]:
    """Worst and best pictures of a run: picture, truth, prediction."""
    run = file_name(run)
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
