"""The call that does the same, in Python and on the command line, and the files it reads, in one ZIP."""

from __future__ import annotations

import json
import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clipseg_ws.config import flatten
from clipseg_ws.files import atomic_write, write_text, zip_entry
from clipseg_ws.output.formats.png import write_label_png
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.web.ask import Answer, Ask
from clipseg_ws.web.shapes import to_labelme

STEM = "picture"
MARKS = f"marks/{STEM}.json"


@dataclass(frozen=True)
class Files:
    """What can be downloaded: label PNG, JSON, and a ZIP with these, the inputs and the scripts."""

    labels: Path
    record: Path
    everything: Path


def python_call(answer: Answer, model: str, options: Mapping[str, Any]) -> str:
    """A script that gives the same labels; its files are those of the ZIP.

    Args:
        model: name of the loaded model. options: device, dtype and offline as the page was started with.
    """
    ask, weak = answer.ask, answer.weak
    names = ["Segmenter", *(["Support"] if ask.supports else []), *(["WeakLabels"] if weak is not None else [])]
    lines = [f"from clipseg_ws import {', '.join(names)}"]
    lined = weak is not None and weak.scribbles is not None
    if lined:
        lines.append("from clipseg_ws.weak.readers.scribbles import read_scribbles")
    given = {"method": ask.method, **_unusual(options), **_arguments(ask.settings)}
    lines += ["", f"segment = Segmenter({model!r}, {_keywords(given)})", "result = segment(", f'    "{STEM}.png",']
    if ask.classes is not None:
        lines.append(f"    classes={ask.classes!r},")
    if ask.supports:
        lines.append("    supports=[")
        for number, support in enumerate(ask.supports, 1):
            lines.append(f'        Support("examples/{number}.png", "examples/{number}_mask.png", {support.label!r}),')
        lines.append("    ],")
    if weak is not None:
        parts = {"tags": weak.tags, "boxes": weak.boxes, "points": weak.points}
        text = _keywords({key: value for key, value in parts.items() if value or key == "tags"})
        drawn = ', scribbles=read_scribbles("scribbles.png")' if lined else ""
        lines.append(f"    weak=WeakLabels({text}{drawn}),")
    lines += [")", 'result.save("out")', "print(result.shares())"]
    return "\n".join(lines) + "\n"


def command_call(answer: Answer, model: str, options: Mapping[str, Any]) -> str:
    """A shell command that gives the same labels, or a comment that says why none does."""
    ask, weak = answer.ask, answer.weak
    if ask.supports and weak is not None:
        return "# no single command takes examples and marks together; run.py does it"
    common = ["--model", model, "--method", ask.method]
    settings = _flat(ask.settings)
    common += ["--refine", str(settings.pop("refine", answer.result.config["refine"]))]
    common += ["--regions", str(settings.pop("regions"))] if "regions" in settings else []
    for key, value in settings.items():
        common += ["--set", f"{key}={value if key == 'steps' else json.dumps(value)}"]
    for key, value in _unusual(options).items():
        common += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    picture = f"{STEM}.png"
    names = [] if ask.classes is None else ["-c", ask.classes]
    if ask.supports:
        parts = ["fewshot", picture]
        for number, support in enumerate(ask.supports, 1):
            parts += ["--support", f"examples/{number}.png", f"examples/{number}_mask.png", str(support.label)]
        parts += [*names, *common, "-o", "out"]
    elif weak is not None:
        tags = "; ".join(weak.tags or ()) or ";"  # ";" is a list of no names, "" would be this folder
        parts = ["pseudo", picture, "--marks", MARKS, "--tags", tags, *names, "--confidence", "0", *common, "-o", "out"]
    else:
        parts = ["predict", picture, *names, *common, "-o", "out"]
    return shlex.join(["clipseg-ws", *parts])


def write_files(folder: Path, answer: Answer, model: str, options: Mapping[str, Any], alpha: float) -> Files:
    """Write everything that can be downloaded into ``folder``; pictures hold pixels only, no metadata."""
    result, ask = answer.result, answer.ask
    inside: list[Path] = result.save(folder, ("png", "json", "confidence"), stem="result")
    with atomic_write(folder / "result_overlay.png") as path:
        result.overlay(alpha=alpha).save(path, format="PNG", compress_level=1)
    inside.append(folder / "result_overlay.png")
    inside.append(_picture(ask.picture, folder / f"{STEM}.png"))
    inside += _inputs(folder, ask, answer, result)
    write_text(folder / "run.py", python_call(answer, model, options))
    write_text(folder / "run.sh", "#!/bin/sh\n" + command_call(answer, model, options) + "\n")
    inside += [folder / "run.py", folder / "run.sh"]
    everything = folder / "clipseg_ws_page.zip"
    with atomic_write(everything) as path, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in inside:
            archive.writestr(zip_entry(file.relative_to(folder).as_posix()), file.read_bytes())
    return Files(folder / "result.png", folder / "result.json", everything)


def _inputs(folder: Path, ask: Ask, answer: Answer, result: Segmentation) -> list[Path]:
    """Marks and examples as files."""
    written = []
    if answer.weak is not None:
        content = to_labelme(ask.shapes, f"{STEM}.png", ask.picture.size)
        write_text(folder / MARKS, json.dumps(content, ensure_ascii=False) + "\n")
        written.append(folder / MARKS)
        if answer.weak.scribbles is not None:
            write_label_png(answer.weak.scribbles, folder / "scribbles.png", classes=len(result.names))
            written.append(folder / "scribbles.png")
    for number, support in enumerate(ask.supports, 1):
        written.append(_picture(support.image, folder / f"examples/{number}.png"))
        mask = folder / f"examples/{number}_mask.png"
        write_label_png(np.asarray(support.mask, np.uint8), mask, classes=1)
        written.append(mask)
    return written


def _picture(image: Image.Image, path: Path) -> Path:
    with atomic_write(path) as temporary:
        image.save(temporary, format="PNG", compress_level=1)
    return path


def _unusual(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that are not the default."""
    return {key: value for key, value in options.items() if value not in ("auto", False)}


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by key, the list of steps as text: "affinity(threshold=0.5), saliency"."""
    flat = flatten(settings)
    if not isinstance(flat.get("steps", ""), str):
        flat["steps"] = ", ".join(str(spec) for spec in flat["steps"]) or "none"
    return flat


def _arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as keyword arguments, those of the matching with examples together in ``fewshot``."""
    flat = _flat(settings)
    few = {key.removeprefix("fewshot."): value for key, value in flat.items() if key.startswith("fewshot.")}
    plain = {key: value for key, value in flat.items() if not key.startswith("fewshot.")}
    return plain | ({"fewshot": few} if few else {})


def _keywords(values: Mapping[str, Any]) -> str:
    """``a=1, **{'b.c': 2}``: keys that are no Python names stand in the dictionary."""
    parts = [f"{key}={value!r}" for key, value in values.items() if key.isidentifier()]
    dotted = {key: value for key, value in values.items() if not key.isidentifier()}
    return ", ".join([*parts, *([f"**{dotted!r}"] if dotted else [])])
