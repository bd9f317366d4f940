"""Which number tells wrong masks from right ones without the truth: the rows of ``errors.csv``.

``python -m clipseg_ws.eval.experiments.errors --photos FOLDER -o errors.csv`` segments drawn scenes with ``nano`` and
the pictures of FOLDER (``list.txt``, ``images/``, ``masks/`` with VOC's 20 classes) with ``photo``, by their tags and
by names, and correlates every number of ``output.doubt``, the presence margin and the share of pixels that the picture's
refinement changed (Spearman) with the true IoU: mean over the labels that are in truth or answer, background included.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr

from clipseg_ws.embedded.nano.scenes import KINDS, draw_scene
from clipseg_ws.eval.run.identity import commit
from clipseg_ws.eval.tables import write_table
from clipseg_ws.output.doubt import DOUBTS
from clipseg_ws.output.formats.png import read_label_png
from clipseg_ws.output.items import Labels
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.reading import read_image
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.structures import IGNORE
from clipseg_ws.text.vocabulary import load_vocabulary

COLUMNS = ("pictures_of", "model", "setting", "number", "spearman", "p", "pictures", "mean_iou", "commit", "command")
FIRST_SCENE = 6_000_000
EXTRA = ("presence", "refined")


class Case(NamedTuple):
    """A picture, its truth [H, W] (255 ignored) in the numbering of the classes, and the classes that are in it."""

    picture: Any
    truth: Labels
    tags: list[str]


def scenes(count: int) -> Iterator[Case]:
    """Drawn scenes that no model was trained on."""
    for number in range(count):
        scene = draw_scene(FIRST_SCENE + number, 224)
        yield Case(scene.image, scene.labels, list(scene.tags))


def photos(folder: Path, count: int, names: Sequence[str]) -> Iterator[Case]:
    """The first pictures of a small folder of VOC's."""
    for line in (folder / "list.txt").read_text("utf-8").split("\n")[:count]:
        if stem := line.split("/")[-1].split(".")[0].strip():
            truth = read_label_png(folder / "masks" / f"{stem}.png")
            present = [names[value - 1] for value in np.unique(truth).tolist() if 0 < value < IGNORE]
            yield Case(read_image(folder / "images" / f"{stem}.jpg"), truth, present)


def true_iou(made: Labels, truth: Labels) -> float:
    """Mean IoU over the labels that truth or answer hold, pixels with 255 left out."""
    kept = truth != IGNORE
    made, truth = made[kept], truth[kept]
    labels = np.union1d(made, truth)
    return float(np.mean([((made == i) & (truth == i)).sum() / ((made == i) | (truth == i)).sum() for i in labels]))


def numbers(result: Segmentation, plain: Segmentation) -> dict[str, float]:
    """Every number of an answer; lower is more doubtful. ``plain``: the same without refinement by the picture."""
    found = {name: doubt(result.labels, result.confidence) for name, doubt in DOUBTS.items()}
    least = float(result.config.get("presence_threshold") or 0.0)
    found["presence"] = min((abs(score - least) for score in result.scores.values()), default=0.0)
    found["refined"] = float((result.labels == plain.labels).mean())
    return found


def measure(
    segmenter: Segmenter, cases: Sequence[Case], names: Sequence[str], setting: str
) -> tuple[dict[str, tuple[float, float]], float]:
    """number -> (Spearman's rho with the true IoU, p), and the mean of the true IoU."""
    bare, ious, rows = segmenter.variant(refine="none"), [], []
    for case in cases:
        answers = []
        for one in (segmenter, bare):
            question = one.ask(list(names))
            tags = [case.tags] if setting == "weak" else None
            answers.append(one.answer(question, [case.picture], tags=tags)[0])
        rows.append(numbers(*answers))
        ious.append(true_iou(answers[0].labels, case.truth))
    made = {name: spearmanr([row[name] for row in rows], ious) for name in (*DOUBTS, *EXTRA)}
    return {name: (float(r.statistic), float(r.pvalue)) for name, r in made.items()}, float(np.mean(ious))


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="list.txt, images/, masks/; left out: scenes alone")
    parser.add_argument("--count", type=int, default=60, help="pictures of each kind")
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args(arguments)
    command = "python -m clipseg_ws.eval.experiments.errors --photos FOLDER" + f" --count {given.count}"
    jobs: list[tuple[str, str, Sequence[str], list[Case]]] = [("scenes", "nano", KINDS, list(scenes(given.count)))]
    if given.photos is not None:
        words = load_vocabulary("voc").names
        jobs.append(("photos", "photo", words, list(photos(given.photos, given.count, words))))
    rows = []
    for kind, model, names, cases in jobs:
        segmenter = Segmenter(model)
        for setting in ("weak", "zero"):
            found, iou = measure(segmenter, cases, names, setting)
            for name, (rho, p) in found.items():
                print(f"{kind} {setting} {name:12s} {rho:+.3f}", flush=True)
                rows.append(dict(zip(COLUMNS, (kind, model, setting, name, round(rho, 3), f"{p:.2g}", len(cases),
                                               round(100 * iou, 1), commit(), command), strict=True)))  # fmt: skip
    write_table(given.output, COLUMNS, rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
