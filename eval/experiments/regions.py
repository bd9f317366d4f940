"""What deciding inside regions does on photos: the rows of ``regions.csv``.

``python -m clipseg_ws.eval.experiments.regions --voc ROOT --limit 60 -o DIR`` measures every row on the first 60
pictures of VOC's ``val`` (``voc-animals``): each pixel for itself, and votes with every source of regions that needs no
network. The row ``true`` has the true segments as regions: **an upper bound**, no method. ``--split train`` is for
choosing parameters. A row that stands in the file, with the same weights and pictures, is measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from tqdm import tqdm

from clipseg_ws import Segmenter
from clipseg_ws.eval.datasets import derived_marks
from clipseg_ws.eval.datasets.dataset import Dataset
from clipseg_ws.eval.datasets.load import load_dataset
from clipseg_ws.eval.guard import parse_setting
from clipseg_ws.eval.metrics import ConfusionMatrix
from clipseg_ws.eval.run.identity import commit
from clipseg_ws.eval.tables import read_table, records, write_table

TRUE = "true"
ROWS = {
    "pixel": "none", "superpixels": "superpixels", "superpixels-32": "superpixels(side=32)",
    "felzenszwalb": "felzenszwalb", "grow": "grow", TRUE: "files:{masks}",
}  # fmt: skip
CLASSES = ("background", "cat", "cow", "dog", "horse", "person", "sheep")
COLUMNS = (
    "row", "regions", "by", "setting", "mIoU", *(f"iou_{name}" for name in CLASSES), "pictures", "split",
    "regions_per_picture", "seconds_per_picture", "upper_bound", "model", "weights_sha256", "commit", "command",
)  # fmt: skip
BATCH = 8


@dataclass(frozen=True)
class Row:
    """One measurement. key: what ``--rows`` chooses by. regions: as ``--regions``. by: of the votes."""

    key: str
    regions: str
    by: str
    setting: str


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voc", type=Path, required=True, help="VOC2012 in its official layout")
    parser.add_argument("--model", default="photo", help="as in clipseg-ws predict --model")
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, help="first pictures")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--source", nargs="+", default=[], help="sources besides, as --regions takes them")
    parser.add_argument("--settings", nargs="+", default=["weak", "zero"])
    parser.add_argument("--by", nargs="+", default=["mean"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    if unknown := set(given.rows) - set(ROWS):
        parser.error(f"no row {', '.join(sorted(unknown))}; rows are {', '.join(ROWS)}")
    sources = {key: ROWS[key].format(masks=given.voc / "SegmentationClass") for key in given.rows}
    sources |= {text: text for text in given.source}
    plain = Segmenter(given.model, dtype="float32", offline=True, cache_mb=2000)
    for setting in given.settings:
        found = load_dataset(
            "voc-animals", given.voc, setting=parse_setting(setting), split=given.split, prompts="voc-names"
        )
        assert isinstance(found, Dataset)
        data = found if given.limit is None else found.limited(given.limit)
        for key, source in sources.items():
            for by in given.by if source != "none" else given.by[:1]:
                row = Row(key, source, by, setting)
                line = measure(plain, data, row) | {"split": given.split, "command": _command(given, row)}
                put(given.output / "regions.csv", line)
                told = f"mIoU {line['mIoU']:.4f}, {line['regions_per_picture']} regions"
                print(f"{setting} {key} by {by}: {told}", flush=True)
    return 0


def _command(given: argparse.Namespace, row: Row) -> str:
    which = f"--rows {row.key}" if row.key in ROWS else f'--rows pixel --source "{row.regions}"'
    words = ["python -m clipseg_ws.eval.experiments.regions", f"--voc {given.voc}", f"--model {given.model}"]
    words += [f"--split {given.split}"] if given.split != "val" else []
    words += [f"--limit {given.limit}"] if given.limit is not None else []
    return " ".join([*words, which, f"--settings {row.setting} --by {row.by} -o {given.output}"])


def measure(plain: Segmenter, data: Dataset, row: Row) -> dict[str, Any]:
    """The line of a row: answers of all pictures in one confusion matrix."""
    votes: dict[str, Any] = {} if row.regions == "none" else {"regions": row.regions, "votes": {"by": row.by}}
    segmenter = plain.variant(**votes)
    question, names = segmenter.ask(data.vocabulary), data.vocabulary.names
    matrix, seconds, cut = ConfusionMatrix(len(names) + 1), 0.0, 0
    for start in tqdm(range(0, len(data.ids), BATCH), desc=f"{row.setting} {row.key}", disable=None):
        ids = data.ids[start : start + BATCH]
        images, truths, begun = [data.image(id) for id in ids], [data.truth(id) for id in ids], perf_counter()
        tags = [derived_marks.tags(truth, names) for truth in truths] if row.setting == "weak" else None
        answers = segmenter.answer(question, images, tags=tags)
        seconds += perf_counter() - begun
        for answer, truth in zip(answers, truths, strict=True):
            matrix.update(answer.labels, truth)
            cut += len(answer.extras["regions"].regions) if "regions" in answer.extras else 0
    return _line(matrix.compute(), row, data, segmenter, (seconds, cut))


def _line(
    found: Mapping[str, Any], row: Row, data: Dataset, segmenter: Segmenter, sums: tuple[float, int]
) -> dict[str, Any]:
    ious = {f"iou_{name}": round(float(value), 4) for name, value in zip(CLASSES, found["iou"], strict=True)}
    count = len(data.ids)
    return {
        "row": row.key, "regions": row.regions, "by": row.by if row.regions != "none" else "", "setting": row.setting,
        "mIoU": round(float(found["mIoU"]), 4), **ious, "pictures": count,
        "regions_per_picture": round(sums[1] / count, 1), "seconds_per_picture": round(sums[0] / count, 3),
        "upper_bound": "yes" if row.key == TRUE else "no", "model": segmenter.backbone.name,
        "weights_sha256": segmenter.backbone.weights_sha256, "commit": commit(),
    }  # fmt: skip


def put(path: Path, line: Mapping[str, Any]) -> None:
    """Put a line in place of that of the same measurement, else last."""
    lines: list[dict[str, Any]] = list(records(read_table(path, COLUMNS)))
    keys: Sequence[str] = ("row", "by", "setting", "pictures", "split", "model")
    same = [i for i, old in enumerate(lines) if all(str(old[k]) == str(line[k]) for k in keys)]
    place = same[0] if same else len(lines)
    lines[place : place + len(same)] = [dict(line)]
    write_table(path, COLUMNS, lines)


if __name__ == "__main__":
    raise SystemExit(main())
