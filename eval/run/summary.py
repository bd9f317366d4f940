"""What is said at the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clipseg_ws.eval.tables import SWEEP_COLUMNS, read_table


def summary(row: dict[str, Any], out: Path) -> list[str]:
    """The closing lines of a run."""
    scores = [
        f"{key} {100 * row[key]:.2f}"
        for key in ("mIoU", "pixel_accuracy", "fb_iou", "boundary_iou")
        if _given(row[key])
    ]
    lines = [f"{row['run_id']}: {', '.join(scores)}; {row['n_images']} pictures, {row['seconds_per_image']:.3f} s each"]
    swept = read_table(out / "thresholds.csv", SWEEP_COLUMNS)
    swept = swept[(swept["run_id"] == row["run_id"]) & (swept["mIoU"] != "")]
    if len(swept):
        best = swept.loc[swept["mIoU"].astype(float).idxmax()]
        name = "constant" if best["kind"] == "threshold" else "power"
        lines.append(
            f"  best of {len(swept)} backgrounds: {name} {best['value']}, mIoU {100 * float(best['mIoU']):.2f}"
        )
    if row["n_failed"]:
        lines.append(f"  {row['n_failed']} pictures failed, listed in {out / 'errors.csv'}")
    return lines


def _given(value: Any) -> bool:
    return isinstance(value, float) and value == value
