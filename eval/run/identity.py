"""What a run is: the program, and everything else that decides its numbers, from which its id is made."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import clipseg_ws
import clipseg_ws.eval
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.predictors import Predictor
from clipseg_ws.eval.protocols import Protocol
from clipseg_ws.structures import Vocabulary

WHOLE_FILE = 2**22  # bytes
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


@cache
def _file_digest(path: Path, size: int, changed: int) -> bytes:
    """Of a file's bytes, read once for as long as size and time stay; beyond ``WHOLE_FILE`` of its size and ends."""
    digest = hashlib.blake2b(str(size).encode() + b"\0", digest_size=16)
    with path.open("rb") as file:
        digest.update(file.read(WHOLE_FILE))
        if size > WHOLE_FILE:
            file.seek(max(WHOLE_FILE, size - WHOLE_FILE))
            digest.update(file.read(WHOLE_FILE))
    return digest.digest()


def content_digest(dataset: Dataset | EpisodeSet) -> str:
    """What pictures, masks and official marks of a data set hold, whatever they are called: 12 digits."""
    digest = hashlib.blake2b(digest_size=16)

    def add(value: Any) -> None:
        if isinstance(value, (str, Path)):
            file = Path(value)
            state = file.stat() if file.is_file() else None
            digest.update(b"none" if state is None else _file_digest(file, state.st_size, state.st_mtime_ns))
        else:
            array = np.ascontiguousarray(value)
            digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())

    if isinstance(dataset, EpisodeSet):
        asked = sorted({(name, e.class_id) for e in dataset.episodes for name in (e.query, *e.supports)})
    else:
        asked = [(name, -1) for name in dataset.ids]
    for name, class_id in asked:
        if dataset.files is not None:
            for file in dataset.files(name):
                add(file)
        else:
            add(dataset.image(name))
            add(dataset.mask(name, class_id) if isinstance(dataset, EpisodeSet) else dataset.truth(name))
    return digest.hexdigest()[:12]


def _data(dataset: Dataset | EpisodeSet) -> dict[str, Any]:
    """Every field of a data set, those that are functions by what they give, long ones by their digest."""
    functions = ("image", "truth", "mask", "files", "official", "setting")
    given = {f.name: getattr(dataset, f.name) for f in fields(dataset) if f.name not in functions}
    for key in ("ids", "vocabulary", "episodes", "names"):
        if key in given:
            value = given.pop(key)
            plain = asdict(value) if isinstance(value, Vocabulary) else value
            given[key] = _digest([vars(e) for e in value] if key == "episodes" else plain)
    given["root"] = None if dataset.root is None else str(Path(dataset.root).resolve())
    more = {"ids": _digest(list(dataset.ids)), "count": len(dataset.ids), "content": content_digest(dataset)}
    marks = sorted(getattr(dataset, "official", {}))
    more |= {"classes": list(dataset.class_names), "class_ids": given.pop("classes", None), "official": marks}
    return given | more | ({"fold": dataset.fold} if isinstance(dataset, EpisodeSet) else {})


def identity(
    dataset: Dataset | EpisodeSet,
    protocol: Protocol,
    predictor: Predictor,
    *,
    limit: int | None,
    measured: Mapping[str, bool],
) -> dict[str, Any]:
    """All that decides the numbers of a run, JSON-able; its hash is the end of the run's id.

    The data by name, place and content, the words, the protocol, and what the method says of itself (settings, words,
    weights of all its models). The program is kept beside it (``code_hash``): a state of another one begins anew.

    ``measured``: what is measured beside the confusion matrix.
    """
    content: dict[str, Any] = {
        "dataset": _data(dataset),
        "setting": dataset.setting.name,
        "protocol": {key: value for key, value in vars(protocol).items() if key not in ("settings", "differing")},
        "limit": limit,
        "predictor": predictor.describe(),
        "measured": dict(measured),
    }  # fmt: skip
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))
    return plain


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def run_id(content: dict[str, Any]) -> str:
    """Readable and deterministic: data set, setting, method, and a hash of ``identity``."""
    fold = content["dataset"].get("fold")
    parts = [content["dataset"]["name"] + ("" if fold is None else f"-fold{fold}"), content["setting"]]
    return "_".join([*parts, re.sub(r"[^\w.=+-]+", "-", content["predictor"]["method"]), _digest(content)])
