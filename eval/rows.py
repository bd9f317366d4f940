"""From a finished state to the tables: the results row, per-class and threshold tables, the resolved configuration."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import clipseg_ws
from clipseg_ws.eval.datasets.episode_sets import EpisodeSet
from clipseg_ws.eval.predictors import Predictor
from clipseg_ws.eval.store import (
    CLASS_COLUMNS,
    COLUMNS,
    ERROR_COLUMNS,
    IMAGE_COLUMNS,
    SWEEP_COLUMNS,
    RunState,
    put_rows,
    write_table,
)
from clipseg_ws.files import atomic_write

if TYPE_CHECKING:  # scoring builds on code_hash of this module
    from clipseg_ws.eval.scoring import Scorer

SCORES = ("mIoU", "pixel_accuracy", "fb_iou", "boundary_iou")
_PACKAGE = Path(clipseg_ws.__file__).parent


@cache
def code_hash() -> str:
    """SHA-256 (12 digits) over this program's source files: a run is only continued by the program that began it."""
    digest = hashlib.sha256()
    for folder in (_PACKAGE, Path(__file__).parent):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def commit() -> str:
    """Short commit of the checkout this package runs from ("+dirty" with changes), else its version."""
    try:
        git = ["git", "-C", str(_PACKAGE)]
        options: dict[str, Any] = {"capture_output": True, "text": True, "check": True, "timeout": 10}
        top = Path(subprocess.run([*git, "rev-parse", "--show-toplevel"], **options).stdout.strip())
        if top.resolve() == _PACKAGE.parent.resolve():  # not a site-packages inside somebody's repository
            name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], **options).stdout.strip()
            changed = subprocess.run([*git, "status", "--porcelain", "-uno"], **options).stdout.strip()
            return name + ("+dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        pass
    return f"v{clipseg_ws.__version__}"


def identity(scorer: Scorer, predictor: Predictor, *, limit: int | None) -> dict[str, Any]:
    """All that decides the numbers of a run, JSON-able; its hash is the end of the run's id."""
    dataset, protocol = scorer.dataset, scorer.protocol
    content: dict[str, Any] = {
        "dataset": {
            "name": dataset.name, "split": dataset.split, "prompts": dataset.prompts, "notes": dict(dataset.notes),
            "classes": list(dataset.class_names), "ids": _digest(list(dataset.ids)), "count": len(dataset.ids),
            "expected": dataset.expected,
        },
        "setting": dataset.setting.name,
        "protocol": {key: value for key, value in vars(protocol).items() if key != "settings"},
        "limit": limit,
        "predictor": predictor.describe(),
        "measured": {"boundary": scorer.boundary, "sweep": scorer.sweep},
    }  # fmt: skip
    if isinstance(dataset, EpisodeSet):
        content["dataset"] |= {"fold": dataset.fold, "episodes": _digest([vars(e) for e in dataset.episodes])}
    return json.loads(json.dumps(content, default=str))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def run_id(content: dict[str, Any]) -> str:
    """Readable and deterministic: data set, setting, method, and a hash of ``identity``."""
    fold = content["dataset"].get("fold")
    parts = [content["dataset"]["name"] + ("" if fold is None else f"-fold{fold}"), content["setting"]]
    return "_".join([*parts, re.sub(r"[^\w.=+-]+", "-", content["predictor"]["method"]), _digest(content)])


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
