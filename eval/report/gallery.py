"""The worst and the best pictures of a run, drawn side by side: picture, truth, prediction. For the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from clipseg_ws.door.pictures import open_picture
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.predictors import Predictor
from clipseg_ws.files import atomic_write
from clipseg_ws.output.segmentation import Segmentation

WIDTH = 240  # pixels a panel


def extremes(scores: Mapping[str, float], count: int) -> list[tuple[str, str, float]]:
    """(kind, id, score): the ``count`` worst, worst first, then the best, best first; no picture twice."""
    ordered = sorted((value, id) for id, value in scores.items() if not np.isnan(value))
    worst, best = ordered[:count], ordered[count:][::-1][:count]
    return [("worst", id, v) for v, id in worst] + [("best", id, v) for v, id in best]


def draw_gallery(
    folder: Path, dataset: Dataset | EpisodeSet, predictor: Predictor, scores: Mapping[str, float], count: int
) -> list[Path]:
    """Write ``worst-1_0.123_<id>.jpg`` … and ``best-…`` into ``folder``; each picture is predicted once more."""
    if folder.is_dir():
        for old in folder.glob("*.jpg"):
            old.unlink()
    written, ranks = [], {"worst": 0, "best": 0}
    for kind, id, value in extremes(scores, count):
        ranks[kind] += 1
        path = folder / f"{kind}-{ranks[kind]}_{value:.3f}_{id.replace('/', '-')}.jpg"
        strip = triptych(dataset, predictor, id)
        with atomic_write(path) as temporary:
            strip.save(temporary, format="JPEG", quality=85)
        written.append(path)
    return written


def triptych(dataset: Dataset | EpisodeSet, predictor: Predictor, id: str) -> Image.Image:
    """Picture, overlay of the truth, overlay of the prediction, side by side at one height, RGB."""
    sample = dataset.sample(id)
    labels = predictor.predict([sample])[0].labels
    if isinstance(sample.image, np.ndarray):
        picture = Image.fromarray(sample.image)
    else:
        with open_picture(sample.image) as file:
            picture = file.convert("RGB")
    panels = [picture, *(_overlay(picture, map_, sample.classes.names) for map_ in (dataset.truth(id), labels))]
    small = [panel.resize((WIDTH, max(1, round(panel.height * WIDTH / panel.width)))) for panel in panels]
    strip = Image.new("RGB", (WIDTH * len(small) + 4 * (len(small) - 1), max(p.height for p in small)), "white")
    for i, panel in enumerate(small):
        strip.paste(panel, (i * (WIDTH + 4), 0))
    return strip


def _overlay(picture: Image.Image, labels: np.ndarray, names: tuple[str, ...]) -> Image.Image:
    shown = np.asarray(labels).astype(np.uint8 if len(names) < 255 else np.int32)
    confidence = np.ones(shown.shape, np.float32)
    return Segmentation(shown, names, {}, confidence, image=picture).overlay()
