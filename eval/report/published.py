"""Published numbers (published.csv, each with its source), and how a run's protocol differs from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import pandas as pd

from clipseg_ws.eval.protocols import load_protocol
from clipseg_ws.eval.tables import records

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


def load_published() -> pd.DataFrame:
    """All rows of published.csv: text, and ``value`` in percent.

    Columns: task ("wsss-seed" are pseudo masks, "wsss" a head trained on them), setting, method, backbone, dataset,
    split, metric, value, extra_models, source.
    """
    with (resources.files("clipseg_ws.eval") / "published.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str, na_filter=False).astype({"value": float})


def same_task(dataset: str, setting: str) -> pd.DataFrame:
    """Published numbers on a data set in a setting, best first."""
    table = load_published()
    found = table[(table["dataset"] == dataset) & (table["setting"] == setting)]
    return found.sort_values("value", ascending=False, kind="stable")


def warnings(row: Mapping[str, str], config: Mapping[str, Any], published: pd.DataFrame) -> list[str]:
    """In plain words: why a results row may not be compared with the published numbers beside it.

    ``row``: of results.csv. ``config``: its resolved configuration, may be empty.
    """
    out = []
    data = config.get("dataset", {})
    expected, count = data.get("expected"), int(row["n_images"])
    if expected and count != int(expected):
        out.append(f"{count} of the {expected} pictures of the official split")
    if int(row["n_failed"] or 0):
        out.append(f"{row['n_failed']} pictures failed and are not in the number")
    if row["setting"] == "oracle":
        out.append("reads the truth: a check of the harness, no result")
    if published.empty:
        return out
    splits = sorted({*published["split"]} - {"mean"})
    if splits and row["split"] not in splits and row["split"] != "mean":
        out.append(f"split {row['split']}, published on {' and '.join(splits)}")
    if row["split"] != "mean" and row["fold"]:
        out.append(f"fold {row['fold']} alone, published are means over four folds")
    if "from masks" in row["labels_read"]:
        out.append(f"{row['labels_read']}: published runs read the official annotations")
    if str(data.get("notes", {}).get("episodes", "")).startswith("drawn"):
        out.append("episodes drawn here, not the published list")
    backbones = {*published["backbone"]}
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


def against_presets(row: Mapping[str, str], published: pd.DataFrame) -> list[str]:
    """One line a published method whose constants are known: what the run does otherwise."""
    out = []
    for preset in published["method"].map(PRESETS).dropna().unique():
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


def means(rows: pd.DataFrame, avg8: Sequence[str]) -> pd.DataFrame:
    """Rows that papers report as means: over the four folds, and over the eight zero-shot data sets ("avg8").

    Made only where all parts are there for one method with one configuration of model and refinement.
    """
    same = ["setting", "method", "backbone", "weights", "prompts", "templates", "refine", "crf", "dtype"]
    model = [column for column in same if column not in ("prompts", "templates")]
    folds = rows[rows["fold"] != ""]
    eight = rows[rows["dataset"].isin(avg8) & (rows["setting"] == "zero")]
    found = [_mean(members, "fold", FOLDS) for _, members in folds.groupby(["dataset", *same], sort=False)]
    found += [_mean(members, "dataset", avg8) for _, members in eight.groupby(model, sort=False)]
    return pd.DataFrame([mean for mean in found if mean is not None], columns=rows.columns, dtype=object)


def _mean(members: pd.DataFrame, part: str, wanted: Sequence[str]) -> dict[str, str] | None:
    """The latest row of every ``part`` as one row, None where a part is missing."""
    latest = members[members["mIoU"] != ""].groupby(part, sort=False, as_index=False).last()
    if {*latest[part]} != {*wanted}:
        return None
    mean: dict[str, str] = records(latest)[0]
    mean |= {"run_id": "", "fold": "", "split": "mean" if part == "fold" else "val"}
    mean |= {} if part == "fold" else {"dataset": "avg8"}
    for column in ("mIoU", "pixel_accuracy", "fb_iou", "boundary_iou"):
        whole = (latest[column] != "").all()
        mean[column] = repr(sum(latest[column].astype(float).tolist()) / len(latest)) if whole else ""
    for column in ("n_images", "n_failed"):
        mean[column] = str(latest[column].astype(int).sum())
    return mean
