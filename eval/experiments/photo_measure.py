"""Measuring one row of photos: the data it is measured on, the Segmenter that answers, the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean, stdev
from time import perf_counter
from typing import Any

from tqdm import tqdm

from clipseg_ws import Segmenter
from clipseg_ws.backbones import load_features
from clipseg_ws.eval.datasets import derived_marks
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.episode_set import EpisodeSet
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.experiments.photo_rows import Row, more_names
from clipseg_ws.eval.guard import parse_setting
from clipseg_ws.eval.predictors.segmenter import SegmenterPredictor
from clipseg_ws.eval.protocols import DEFAULT
from clipseg_ws.eval.run.evaluation import Options, evaluate
from clipseg_ws.eval.run.identity import identity, run_id
from clipseg_ws.eval.tables import CLASS_COLUMNS, read_table, records

WORDS = "voc-names"  # the names alone; background words and templates are the model's own
SHARE = 0.03  # of a picture's pixels, from which a class is shown by it in an episode
BATCH = 8
Data = Dataset | EpisodeSet


@dataclass(frozen=True)
class Photos:
    """Pictures in VOC's layout, or a small folder's set-aside ones.

    Attributes:
        root, split: as for ``load_dataset``. limit: first pictures or episodes only. episodes: of a seed.
        seeds: of the episodes; other settings have none.
    """

    root: Path
    split: str = "val"
    limit: int | None = None
    episodes: int = 36
    seeds: tuple[int, ...] = (0, 1, 2)

    def load(self, row: Row, known: Sequence[str] = ()) -> list[Data]:
        """What a row is measured on: one data set, or one list of episodes a seed. ``known``: names of the model."""
        setting = parse_setting(row.setting)
        if not setting.shots:
            name = "voc21" if row.presence else "voc-animals"  # presence: of all 20 names
            data = load_dataset(name, self.root, setting=setting, split=self.split, prompts=WORDS)
            assert isinstance(data, Dataset)
            if row.names:
                data = replace(data, vocabulary=more_names(data.vocabulary, known, row.names))
            return [data if self.limit is None else data.limited(self.limit)]
        count = min(self.episodes, self.limit or self.episodes)
        given: dict[str, Any] = {"setting": setting, "split": self.split, "prompts": WORDS}
        given |= {"count": count, "min_share": SHARE, "in_turn": True}
        return [load_dataset("voc-animals", self.root, seed=seed, **given) for seed in self.seeds]


class Models:
    """Segmenters of one model in float32; all share its weights, texts and tokens.

    Args:
        model: its name. cache_mb: megabytes of tokens, so that rows on the same pictures encode them once.
    """

    def __init__(self, model: str, device: str = "auto", cache_mb: int = 2000) -> None:
        self.name, self._common = model, {"batch_size": BATCH, "cache_mb": cache_mb}
        self.plain = Segmenter(model, device=device, dtype="float32", offline=True)

    @cached_property
    def on_stem(self) -> Segmenter:
        """Examples compared by the stem. Raises ValueError (or OSError) where the model has none."""
        features = load_features(f"{self.name}:stem", self.plain.backbone.device, "float32", offline=True)
        return Segmenter(self.name, backbone=self.plain.backbone, features=features)

    def of(self, row: Row) -> Segmenter:
        """The Segmenter of a row. Raises ValueError for settings that it does not read, OSError as ``on_stem``."""
        first = self.on_stem if row.stem else self.plain
        return first.variant(row.method, **self._common, **row.given)

    @property
    def known(self) -> tuple[str, ...]:
        """Names that the model knows; empty: it is not limited to any."""
        return self.plain.backbone.known_classes

    @property
    def digest(self) -> str:
        """Of its weights."""
        return self.plain.backbone.weights_sha256


@dataclass(frozen=True, eq=False)
class Task:
    """A row with its data and its Segmenter, not measured yet.

    Attributes:
        run: all that decides the numbers (not the program), so that what was measured before is known again.
    """

    row: Row
    data: Sequence[Data]
    segmenter: Segmenter

    @cached_property
    def predictors(self) -> list[SegmenterPredictor]:
        """One a data set."""
        made = []
        for data in self.data:
            words = data.vocabulary if isinstance(data, Dataset) else data.sample(data.ids[0]).classes
            made.append(SegmenterPredictor(self.segmenter, data.setting, words, name=self.row.method))
        return made

    @cached_property
    def run(self) -> str:
        """Run ids of the evaluation, one a data set."""
        measured = {"presence": True} if self.row.presence else {"boundary": False, "sweep": False}
        pairs = zip(self.data, self.predictors, strict=True)
        return " ".join(run_id(identity(d, DEFAULT, p, limit=None, measured=measured)) for d, p in pairs)

    def measure(self, out: Path) -> dict[str, Any]:
        """The numbers: mIoU or precision and recall, IoU of classes, pictures, failures, seconds a picture.

        ``out``: of the evaluation's own tables. Raises ValueError where not one picture could be answered.
        """
        if self.row.presence:
            return presence(self.segmenter, self.data[0])
        options = Options(batch_size=BATCH, boundary=False)
        found = []
        for data, predictor in zip(self.data, self.predictors, strict=True):
            (row,) = evaluate(data, [predictor], out, options=options)
            assert row is not None  # one shard
            found.append(row)
        return _mean(found, out)


def _mean(found: Sequence[Mapping[str, Any]], out: Path) -> dict[str, Any]:
    """Mean over the seeds, where there are several; IoU by class from the evaluation's table."""
    table = records(read_table(out / "per_class.csv", CLASS_COLUMNS))
    ious: dict[str, list[float]] = {}
    for line in table:
        if line["run_id"] in {row["run_id"] for row in found} and line["iou"]:
            ious.setdefault(line["class"], []).append(float(line["iou"]))
    scores = [float(row["mIoU"]) for row in found]
    return {
        "mIoU": fmean(scores),
        "sd": stdev(scores) if len(scores) > 1 else None,
        "classes": {name: fmean(values) for name, values in ious.items()},
        "labels_read": found[0]["labels_read"],
        "pictures": sum(row["n_images"] for row in found),
        "failed": sum(row["n_failed"] for row in found),
        "seconds": fmean(row["seconds_per_image"] for row in found),
    }


def presence(segmenter: Segmenter, data: Data) -> dict[str, Any]:
    """Precision and recall over all pairs of picture and name; a class is there where the mask has a pixel of it."""
    assert isinstance(data, Dataset)
    question, names = segmenter.ask(data.vocabulary), data.vocabulary.names
    right, found, true, seconds = 0, 0, 0, 0.0
    for start in tqdm(range(0, len(data.ids), BATCH), desc="presence", disable=None):
        ids = data.ids[start : start + BATCH]
        images, begun = [data.image(id) for id in ids], perf_counter()
        answers = segmenter.answer(question, images)
        seconds += perf_counter() - begun
        for id, answer in zip(ids, answers, strict=True):
            shown, said = set(derived_marks.tags(data.truth(id), names)), set(answer.present or ())
            right, found, true = right + len(shown & said), found + len(said), true + len(shown)
    return {
        "precision": right / max(found, 1), "recall": right / max(true, 1), "labels_read": "none",
        "pictures": len(data.ids), "failed": 0, "seconds": seconds / max(len(data.ids), 1),
    }  # fmt: skip
