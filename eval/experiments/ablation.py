"""What each part of the default zero-shot method is worth on drawn scenes.

``python -m clipseg_ws.eval.experiments.ablation -o DIR`` does it.

One row a variant in ``DIR/results.csv`` (complete rows, the variant's name as method) and ``zero_ablation.csv`` beside
it with what differs. ``scenes`` asks for the 12 kinds, ``scenes100`` for 100 names; "oracle" is told the classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.predictors.segmenter import SegmenterPredictor
from clipseg_ws.eval.run.evaluation import Options, evaluate
from clipseg_ws.eval.tables import COLUMNS as RUN_COLUMNS
from clipseg_ws.eval.tables import read_table, write_table

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "without presence": {"presence": False},
    "GradCAM alone": {"activation": "gradcam", "competition": 0.0},
    "dense map alone": {"activation": "dense", "competition": 0.0},
    "fused before the affinity only": {"competition": 0.0},
    "fused after the affinity only": {"activation": "gradcam"},
    "without affinity": {"affinity": False},
    "without picture refinement": {"refine": "none"},
    "pamr in place of guided": {"refine": "pamr"},
    "with outlier repair": {"outliers": 0.05},
    "with q-k attention of middle blocks": {"correlation": "cross"},
    "with two-pass layer fusion": {"layer_fusion": "two-pass"},
}
HARD = ("default", "without presence", "GradCAM alone", "dense map alone", "without affinity")  # with 100 names too
COLUMNS = ("dataset", "labels_read", "variant", "settings", "mIoU", "pixel_accuracy", "n_images", "seconds_per_image")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    from clipseg_ws import Segmenter

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200, help="held-out scenes")
    parser.add_argument("--only", nargs="*", help="data sets: scenes, scenes100")
    given = parser.parse_args(arguments)
    segmenter = Segmenter("nano", dtype="float32", batch_size=8, cache_mb=200)
    options = Options(batch_size=8, boundary=False)
    for name in given.only or ("scenes", "scenes100"):
        for setting in ("weak", "zero"):
            data = load_dataset(name, setting=setting, count=given.count)
            assert isinstance(data, Dataset)  # no few-shot setting here
            chosen = ("default",) if setting == "weak" else tuple(VARIANTS) if name == "scenes" else HARD
            predictors = [
                SegmenterPredictor(segmenter.variant("default", **_common(v)), data.setting, data.vocabulary, name=v)
                for v in chosen
            ]
            evaluate(data, predictors, given.output, options=options, say=print)
    rows = read_table(given.output / "results.csv", RUN_COLUMNS)
    write_table(given.output / "zero_ablation.csv", COLUMNS, _summary(rows))


def _common(variant: str) -> dict[str, Any]:
    return {"batch_size": 8, "cache_mb": 200} | VARIANTS[variant]


def _summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a row of the results: what differs from the default, and what came out."""
    written = {name: " ".join(f"{k}={v}" for k, v in settings.items()) for name, settings in VARIANTS.items()}
    told = "default, told the classes"
    named = rows["method"].where(rows["setting"] == "zero", told)
    return rows.assign(variant=named, settings=rows["method"].map(written))


if __name__ == "__main__":
    main()
