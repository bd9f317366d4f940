"""How fast the harness itself is: perfect predictions read from disk, real decoding, scoring and saving of states."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.predictors.checks import Oracle
from clipseg_ws.eval.run.evaluation import Options, evaluate
from clipseg_ws.output.formats.png import write_label_png

VOC_SIZE = (375, 500)  # h, w
TARGET = 150.0  # images a second on 2 cores


def draw_masks(root: Path, count: int, size: tuple[int, int] = VOC_SIZE, classes: int = 20) -> None:
    """A folder data set of ``count`` random blobby label maps with ignored rims, like VOC's, and blank pictures."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    picture = Image.fromarray(np.zeros((*size, 3), np.uint8))
    for i in range(count):
        field = ndimage.zoom(rng.normal(size=(7, 9)), (size[0] / 7, size[1] / 9), order=1)[: size[0], : size[1]]
        labels = np.where(field > 0.3, rng.integers(1, classes + 1), 0).astype(np.uint8)
        labels[np.abs(field - 0.3) < 0.03] = 255
        write_label_png(labels, root / "masks" / f"{i:05d}.png")
        picture.save(root / "images" / f"{i:05d}.jpg")
    names = ", ".join(f"class {i}" for i in range(1, classes + 1))
    (root / "classes.yaml").write_text(f"classes: [{names}]\n")


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bench_eval(root: str | Path | None = None, *, count: int = 600, workers: int = 2) -> dict[str, Any]:
    """Images a second of the whole harness with perfect predictions.

    Every picture costs two PNG decodes (truth, prediction), the confusion matrix and its share of the saved states;
    once more with boundary IoU. ``root``: a VOC folder; without one VOC-size masks are drawn into a temporary folder.

    Returns:
        images, cores, plain and with_boundary (images a second, wall clock), plain_cpu_ms and with_boundary_cpu_ms
        (processor time an image, which a busy machine does not change much), target, mIoU (must be 1.0).
    """
    with tempfile.TemporaryDirectory() as folder:
        if root is None:
            draw_masks(Path(folder) / "data", count)
            dataset = load_dataset("folder", Path(folder) / "data", setting="oracle")
        else:
            dataset = load_dataset("voc21", root, setting="oracle", split="train")
        result: dict[str, Any] = {"images": len(dataset.ids), "cores": _cores(), "target": TARGET}
        for name, boundary in (("plain", False), ("with_boundary", True)):
            options = Options(boundary=boundary, workers=workers)
            started, worked = time.perf_counter(), time.process_time()
            (row,) = evaluate(dataset, [Oracle()], Path(folder) / name, options=options)
            result[name] = round(len(dataset.ids) / (time.perf_counter() - started), 1)
            result[f"{name}_cpu_ms"] = round(1000 * (time.process_time() - worked) / len(dataset.ids), 2)
            result["mIoU"] = row["mIoU"] if row else None
    return result
