"""From a finished state to the tables: the results row, per-class and threshold tables, the resolved configuration."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from clipseg_ws.eval.predictors import Predictor
from clipseg_ws.eval.run.identity import code_hash, commit
from clipseg_ws.eval.run.scorer import Scorer
from clipseg_ws.eval.run.state import RunState
from clipseg_ws.eval.tables import (
    CLASS_COLUMNS,
    COLUMNS,
    ERROR_COLUMNS,
    IMAGE_COLUMNS,
    SWEEP_COLUMNS,
    put_rows,
    write_table,
)
from clipseg_ws.files import atomic_write

SCORES = ("mIoU", "pixel_accuracy", "fb_iou", "boundary_iou")


def write_results(
    out: Path,
    run: str,
    content: dict[str, Any],
    scorer: Scorer,
    predictor: Predictor,
    state: RunState,
    about: dict[str, Any],
) -> dict[str, Any]:
    """Write every table of a finished run, results.csv last, and return its row; ``about``: batch size and seed."""
    result = scorer.compute(state)
    row = _row(run, scorer, predictor, state, about) | {key: result[key] for key in SCORES}
    classes = [dict(zip(CLASS_COLUMNS, (run, *entry), strict=True)) for entry in result["classes"]]
    put_rows(out / "per_class.csv", CLASS_COLUMNS, classes, run)
    swept = [{"run_id": run} | entry for entry in scorer.swept(state)]
    if swept:
        put_rows(out / "thresholds.csv", SWEEP_COLUMNS, swept, run)
    failures = [{"run_id": run, "id": id, "error": " ".join(text.split())} for id, text in state.failed.items()]
    if failures or (out / "errors.csv").exists():
        put_rows(out / "errors.csv", ERROR_COLUMNS, failures, run)
    images = [{"id": id, "iou": state.scores[id]} for id in scorer.dataset.ids if id in state.scores]
    write_table(out / "images" / f"{run}.csv", IMAGE_COLUMNS, images)
    resolved = {"run_id": run} | content | {"classes_counted": result["classes_counted"]}
    _write_config(out / "configs" / f"{run}.yaml", resolved)
    put_rows(out / "results.csv", COLUMNS, [row], run)
    return row


def _row(run: str, scorer: Scorer, predictor: Predictor, state: RunState, about: dict[str, Any]) -> dict[str, Any]:
    """A results row without its scores."""
    dataset, setting, size = scorer.dataset, scorer.dataset.setting, scorer.protocol.score_size
    row = dict.fromkeys(COLUMNS, "") | predictor.columns()
    if size is not None:
        scaled = "{}x{}".format(*size)
        row["resize"] = scaled if row["resize"] in ("", "original") else f"{scaled}, then {row['resize']}"
    read = sorted({*state.read, *([setting.supports] if setting.supports else [])})
    count, fold = len(state.scores), getattr(dataset, "fold", None)
    return row | {
        "run_id": run,
        "time": state.finished,
        "commit": commit(),
        "dataset": dataset.name,
        "split": dataset.split,
        "fold": "" if fold is None else fold,
        "shots": setting.shots or "",
        "setting": setting.name,
        "labels_read": "; ".join(read) or "none",
        "prompts": dataset.prompts,
        "batch": about["batch"],
        "seed": row["seed"] if row["seed"] != "" else about["seed"],
        "n_images": count,
        "n_failed": len(state.failed),
        "seconds_per_image": round(state.seconds / count, 6),
        "images_per_second": round(count / state.total, 3),
        "peak_memory_mb": round(state.memory, 1),
    }


def _write_config(path: Path, content: dict[str, Any]) -> None:
    versions = {name: version(name) for name in ("torch", "open_clip_torch", "transformers", "numpy", "pillow")}
    about = {
        "code": code_hash(),
        "commit": commit(),
        "python": platform.python_version(),
        "machine": platform.platform(),
    }
    with atomic_write(path) as temporary:
        text = yaml.safe_dump(content | {"made_with": about | versions}, sort_keys=False, allow_unicode=True, width=120)
        temporary.write_text(text, "utf-8")
