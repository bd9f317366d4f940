"""Published numbers (published.csv, each with its source), and how a run's protocol differs from them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from clipseg_ws.eval.protocols import load_protocol

PRESETS = {  # published method -> protocol that holds its constants
    "SCLIP": "sclip",
    "NACLIP": "naclip",
    "NACLIP+PAMR": "naclip",
    "ClearCLIP": "clearclip",
    "ProxyCLIP": "proxyclip",
    "CLIP-ES softmax-GradCAM": "clip-es",
    "CLIP-ES +CAA": "clip-es",
    "CLIP-ES +CAA+CRF": "clip-es",
    "HSNet": "hsnet",
    "PANet": "panet",
}
COMPARED = ("resize", "window", "stride", "logit_scale", "threshold", "templates")
FOLDS = ("0", "1", "2", "3")


@dataclass(frozen=True)
class Published:
    """One published number; ``value`` in percent.

    ``task`` "wsss-seed" are pseudo masks, "wsss" a head trained on them.
    """

    task: str
    setting: str
    method: str
    backbone: str
    dataset: str
    split: str
    metric: str
    value: float
    extra_models: str
    source: str


def load_published() -> tuple[Published, ...]:
    """All rows of published.csv."""
    text = (resources.files("clipseg_ws.eval") / "published.csv").read_text("utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(Published(**(row | {"value": float(row["value"])})) for row in rows)  # type: ignore[arg-type]


def same_task(dataset: str, setting: str) -> tuple[Published, ...]:
    """Published numbers on a data set in a setting, best first."""
    found = [p for p in load_published() if (p.dataset, p.setting) == (dataset, setting)]
    return tuple(sorted(found, key=lambda p: -p.value))


def warnings(row: Mapping[str, str], config: Mapping[str, Any], published: Sequence[Published]) -> list[str]:
    """In plain words: why a results row may not be compared with the published numbers beside it.

    ``row``: of results.csv. ``config``: its resolved configuration, may be empty.
    """
    out = []
    data = config.get("dataset", {})
    expected, count = data.get("expected"), int(row["n_images"])
    if expected and count != int(expected):
        out.append(f"{count} of the {expected} pictures of the official split")
    if int(row["n_failed"]):
        out.append(f"{row['n_failed']} pictures failed and are not in the number")
    if row["setting"] == "oracle":
        out.append("reads the truth: a check of the harness, no result")
    if not published:
        return out
    splits = sorted({p.split for p in published} - {"mean"})
    if splits and row["split"] not in splits and row["split"] != "mean":
        out.append(f"split {row['split']}, published on {' and '.join(splits)}")
    if row["split"] != "mean" and row["fold"]:
        out.append(f"fold {row['fold']} alone, published are means over four folds")
    if "from masks" in row["labels_read"]:
        out.append(f"{row['labels_read']}: published runs read the official annotations")
    if str(data.get("notes", {}).get("episodes", "")).startswith("drawn"):
        out.append("episodes drawn here, not the published list")
    backbones = {p.backbone for p in published}
    if _backbone(row["backbone"]) not in {name.split(" ")[0] for name in backbones}:
        out.append(f"backbone {row['backbone'] or 'none'}, published with {', '.join(sorted(backbones))}")
    elif row["weights"] != "openai" and row["backbone"].startswith("ViT"):
        out.append(f"weights {row['weights']}, published with OpenAI's")
    if row["backbone"] == "ViT-B-16":
        out.append("backbone without quick GELU, OpenAI's weights need ViT-B-16-quickgelu")
    return out


def _backbone(name: str) -> str:
    """The name as published: ViT-B/16 for ViT-B-16-quickgelu."""
    return name.removesuffix("-quickgelu").replace("ViT-B-", "ViT-B/").replace("ViT-L-", "ViT-L/")


def against_presets(row: Mapping[str, str], published: Sequence[Published]) -> list[str]:
    """One line a published method whose constants are known: what the run does otherwise."""
    out = []
    for preset in dict.fromkeys(PRESETS[p.method] for p in published if p.method in PRESETS):
        protocol = load_protocol(preset, row["dataset"])
        wanted = {key: getattr(protocol, key) for key in COMPARED}
        if wanted["window"] == 0:
            wanted |= {"window": "whole", "stride": None}
        if protocol.score_size is not None:
            wanted["resize"] = "{}x{}".format(*protocol.score_size)
        different = [
            f"{k} {row[k] or 'none'} ({v})" for k, v in wanted.items() if v is not None and not _equal(row[k], v)
        ]
        if different:
            out.append(f"{preset}: {', '.join(different)}")
    return out


def _equal(text: str, value: Any) -> bool:
    try:
        return float(text) == float(value)
    except ValueError:
        return text == str(value)


def means(rows: Sequence[dict[str, str]], avg8: Sequence[str]) -> list[dict[str, str]]:
    """Rows that papers report as means: over the four folds, and over the eight zero-shot data sets ("avg8").

    Made only where all parts are there for one method with one configuration of model and refinement.
    """
    out = []
    same = ("setting", "method", "backbone", "weights", "prompts", "templates", "refine", "crf", "dtype")
    groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        if row["fold"]:
            groups.setdefault(("fold", row["dataset"], *(row[k] for k in same)), []).append(row)
        if row["dataset"] in avg8 and row["setting"] == "zero":
            groups.setdefault(("avg8", *(row[k] for k in same if k not in ("prompts", "templates"))), []).append(row)
    for key, members in groups.items():
        part = "fold" if key[0] == "fold" else "dataset"
        latest = {row[part]: row for row in members if row["mIoU"]}
        if set(latest) != set(FOLDS if part == "fold" else avg8):
            continue
        mean = dict(next(iter(latest.values()))) | {
            "run_id": "",
            "split": "mean" if part == "fold" else "val",
            "fold": "",
        }
        for column in ("mIoU", "pixel_accuracy", "fb_iou", "boundary_iou"):
            values = [float(row[column]) for row in latest.values() if row[column]]
            mean[column] = repr(sum(values) / len(values)) if len(values) == len(latest) else ""
        for column in ("n_images", "n_failed"):
            mean[column] = str(sum(int(row[column]) for row in latest.values()))
        out.append(mean | ({"dataset": "avg8"} if part == "dataset" else {}))
    return out
