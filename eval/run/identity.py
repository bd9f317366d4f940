"""What a run is: the program, and everything else that decides its numbers, from which its id is made."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import clipseg_ws
import clipseg_ws.eval
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.predictors import Predictor
from clipseg_ws.eval.protocols import Protocol

_PACKAGE, _EVAL = (Path(module.__path__[0]) for module in (clipseg_ws, clipseg_ws.eval))


@cache
def code_hash() -> str:
    """SHA-256 (12 digits) over this program's source files: a run is only continued by the program that began it."""
    digest = hashlib.sha256()
    for folder in (_PACKAGE, _EVAL):
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
            name: str = subprocess.run([*git, "rev-parse", "--short", "HEAD"], **options).stdout.strip()
            changed = subprocess.run([*git, "status", "--porcelain", "-uno"], **options).stdout.strip()
            return name + ("+dirty" if changed else "")
    except (OSError, subprocess.SubprocessError):
        pass
    return f"v{clipseg_ws.__version__}"


def identity(
    dataset: Dataset | EpisodeSet,
    protocol: Protocol,
    predictor: Predictor,
    *,
    limit: int | None,
    measured: Mapping[str, bool],
) -> dict[str, Any]:
    """All that decides the numbers of a run, JSON-able; its hash is the end of the run's id.

    ``measured``: what is measured beside the confusion matrix.
    """
    content: dict[str, Any] = {
        "dataset": {
            "name": dataset.name, "split": dataset.split, "prompts": dataset.prompts, "notes": dict(dataset.notes),
            "classes": list(dataset.class_names), "ids": _digest(list(dataset.ids)), "count": len(dataset.ids),
            "expected": dataset.expected,
        },
        "setting": dataset.setting.name,
        "protocol": {key: value for key, value in vars(protocol).items() if key not in ("settings", "differing")},
        "limit": limit,
        "predictor": predictor.describe(),
        "measured": dict(measured),
    }  # fmt: skip
    if isinstance(dataset, EpisodeSet):
        content["dataset"] |= {"fold": dataset.fold, "episodes": _digest([vars(e) for e in dataset.episodes])}
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return plain


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def run_id(content: dict[str, Any]) -> str:
    """Readable and deterministic: data set, setting, method, and a hash of ``identity``."""
    fold = content["dataset"].get("fold")
    parts = [content["dataset"]["name"] + ("" if fold is None else f"-fold{fold}"), content["setting"]]
    return "_".join([*parts, re.sub(r"[^\w.=+-]+", "-", content["predictor"]["method"]), _digest(content)])
