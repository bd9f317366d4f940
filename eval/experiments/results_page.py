"""The page ``eval/RESULTS.md``: every table of measured numbers, made from the rows in ``eval/results/``.

``python -m clipseg_ws.eval.experiments.results_page > eval/RESULTS.md`` in a checkout. The text stands in
``results_text.md``, where ``{name}`` is one of ``TABLES``; a number in a table is a row of a CSV file, never typed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clipseg_ws.eval.experiments.families_page import markdown

RESULTS = Path("eval/results")  # in a checkout
TEXT = Path("eval/experiments/results_text.md")
Where = Mapping[str, "str | re.Pattern[str]"]
Heading = tuple[str, Where, str]  # heading, which rows of the file, which column of theirs
Row = tuple[str, Where]

SCENES: Where = {"dataset": "scenes"}
FEW, ALONE = "default+fewshot.text_weight=0", "+refine=none+affinity=false"
KINDS12 = "house;tree;car;boat;fish;sun;flower;mushroom;star;balloon;umbrella;butterfly"


@dataclass(frozen=True)
class Table:
    """A table of one CSV file: a cell shows the rows that satisfy its row and its heading, mIoU in per cent.

    Attributes:
        file: below ``RESULTS``. first: heading of the first column. rows, columns: see ``Row`` and ``Heading``.
        where: what all cells ask for. scale: 100 for shares, 1 for what is shown as it stands.
    """

    file: str
    first: str
    rows: Sequence[Row]
    columns: Sequence[Heading]
    where: Where = field(default_factory=dict)
    scale: float = 100

    def lines(self, folder: Path = RESULTS) -> list[list[str]]:
        """Text of the cells, headings first. Raises ValueError for a line without any number."""
        with (folder / self.file).open(encoding="utf-8", newline="") as file:
            found = [row for row in csv.DictReader(file) if fits(row, self.where)]
        made = [[self.first, *(heading for heading, _, _ in self.columns)]]
        for label, where in self.rows:
            cells = [self._cell(found, {**where, **more}, column) for _, more, column in self.columns]
            if not any(cells):
                raise ValueError(f"{self.file} has no row for {label!r}: {where}")
            made.append([label, *cells])
        return made

    def _cell(self, rows: Sequence[Mapping[str, str]], where: Where, column: str) -> str:
        values = [float(row[column]) * self.scale for row in rows if fits(row, where) and row[column]]
        shown = ", ".join(f"{value:.1f}" for value in values)
        return shown if len(values) < 2 else f"{shown} (mean {sum(values) / len(values):.1f})"


def fits(row: Mapping[str, str], where: Where) -> bool:
    """Whether the row has these values, or values that match these patterns as a whole."""
    return all(
        value.fullmatch(row[key]) is not None if isinstance(value, re.Pattern) else row[key] == value
        for key, value in where.items()
    )


def switches(base: str, *changes: tuple[str, str]) -> list[Row]:
    """Rows of a method with one switch changed: (text, "key=value" as the file spells it)."""
    return [(text, {"method": f"{base}+{change}" if change else base}) for text, change in changes]


def head(masks: str, weighting: str, command: str, scheme: str = "") -> Where:
    """Rows of the heads trained so, over all seeds; ``command``: what else the command had to hold."""
    name = rf"head:heads-scenes/decoder{masks}_{weighting}{scheme}_s\d.safetensors"
    return {"method": re.compile(name), "command": re.compile(command)}


def head_columns() -> list[Heading]:
    """200 and 1,000 scenes, as ``predict`` answers and alone."""
    columns: list[Heading] = []
    for text, count in (("first 200 held-out", "200"), ("1,000 held-out", "1000")):
        columns.append((text, {"n_images": count, "alone": "no"}, "mIoU"))
        columns.append(("alone", {"n_images": count, "alone": "yes"}, "mIoU"))
    return columns


class HeadTable(Table):
    """Heads: "alone" is read off the method's name."""

    def _cell(self, rows: Sequence[Mapping[str, str]], where: Where, column: str) -> str:
        marked = [
            {**row, "method": row["method"].removesuffix(ALONE), "alone": "yes" if ALONE in row["method"] else "no"}
            for row in rows
        ]
        return super()._cell(marked, where, column)


PLAIN = r"(?!.*--background 1).*"
PHOTOS = (
    "cam", "cam-affinity", "cam-picture", "dense", "weak", "zero", "presence", "boxes", "points", "few-1",
    "few-1-name", "few-5",
)  # fmt: skip
REGION_ROWS = (
    ("none: every pixel for itself", "pixel"),
    ("`superpixels`", "superpixels"),
    ("`grow`", "grow"),
    ("`felzenszwalb`", "felzenszwalb"),
    ("the true segments (upper bound)", "true"),
)
TABLES: dict[str, Table] = {
    "photo_model": Table(
        "photos.csv", "row", [(f"`{row}`", {"row": row}) for row in PHOTOS],
        [("mIoU", {}, "mIoU"), ("person", {}, "iou_person"), ("presence: precision", {}, "precision"),
         ("recall", {}, "recall")],
    ),
    "settings": Table(
        "scenes.csv", "method",
        [
            ("tags, `cam`: softmax-GradCAM", {"setting": "weak", "method": "cam"}),
            ("tags, `clip-es`: + class-aware affinity", {"setting": "weak", "method": "clip-es"}),
            *((f"{s}, `default`", {"setting": m, "method": "default"}) for s, m in (
                ("tags", "weak"), ("points", "points"), ("boxes", "boxes"), ("scribbles", "scribbles"))),
        ],
        [("mIoU", {}, "mIoU"), ("boundary IoU", {}, "boundary_iou")], SCENES,
    ),
    "names": Table(
        "scenes.csv", "method",
        [(f"`{m}`", {"method": m}) for m in ("maskclip", "sclip", "clearclip", "naclip", "resclip", "default")],
        [("12 names", SCENES, "mIoU"), ("100 names", {"dataset": "scenes100"}, "mIoU")], {"setting": "zero"},
    ),
    "zero_ablation": Table(
        "zero_ablation.csv", "variant",
        [(name, {"variant": name}) for name in (
            "default", "default, told the classes", "without presence", "GradCAM alone", "dense map alone",
            "fused before the affinity only", "fused after the affinity only", "without affinity",
            "without picture refinement", "pamr in place of guided", "with outlier repair",
            "with q-k attention of middle blocks", "with two-pass layer fusion")],
        [("12 names", SCENES, "mIoU"), ("100 names", {"dataset": "scenes100"}, "mIoU")],
    ),
    "weak_ablation": Table(
        "weak_ablation.csv", "switch",
        switches(
            "default", ("none", ""), ("`looks=[0.8,1,1.33] looks.flip=true`: six times the cost",
            "scales=[0.8,1,1.33]+flip=true"), ("`looks=[0.8,1,1.33]`: three times the cost", "scales=[0.8,1,1.33]"),
            ("`looks=true looks.flip=true`: twice the cost", "flip=true"), ("`suppression=0.45` (DRS)",
            "suppression=0.45"), ("`cross_image=0.2` (Group-WSSS, RPNet)", "cross_image=0.2"),
            ("`saliency=0.3` (I2CRC)", "saliency=0.3"), ("`structure=both` (SSA)", "structure=both"),
            ("`expand_shrink=true` (ESOL)", "expand_shrink=true"),
        ),
        [("mIoU", {}, "mIoU")],
    ),
    "fewshot": Table(
        "fewshot.csv", "method",
        [
            ("`prototypes`: masked average pooling and 20 x cosine alone", {"method": "prototypes"}),
            ("`default` by the examples alone (`fewshot.text_weight=0`)", {"method": FEW}),
            ("`default` with the class name beside them", {"method": "default", "labels_read": "support masks"}),
            ("weak-few: `default`, supports with their class name only", {"labels_read": "support tags"}),
        ],
        [(f"{n} shot{'s' if n > 1 else ''}", {"shots": str(n)}, "mIoU") for n in (1, 5)],
    ),
    "fewshot_ablation": Table(
        "fewshot_ablation.csv", "by the examples alone, one switch changed",
        switches(
            FEW, ("none", ""), ("no refit on the query: `fewshot.refit=none`", "fewshot.refit=none"),
            ("refit by an online classifier (SROFB): `fewshot.refit=classifier`", "fewshot.refit=classifier"),
            ("no attention affinity: `affinity=false`", "affinity=false"),
            ("no picture refinement: `refine=none`", "refine=none"),
            ("no dense prior (PFENet): `fewshot.prior=0`", "fewshot.prior=0"),
            ("alignment check (PANet): `alignment=true`", "fewshot.alignment=true"),
            ("cross-reference gates (CRCNet): `crossref=true`", "fewshot.crossref=true"),
            ("three parts a class (PPNet): `parts=3`", "fewshot.parts=3"),
            ("votes over the shots (HSNet): `vote=true`", "fewshot.shots=vote"),
            ("values in text space: `fewshot.kinds=[values]`", "fewshot.kinds=[values]"),
            ("tokens and keys (MSANet): `fewshot.kinds=[input,keys]`", "fewshot.kinds=[input,keys]"),
            ("tokens of two depths (MSANet): `fewshot.kinds=[input,layer:3]`", "fewshot.kinds=[input,layer:3]"),
            ('the other kinds known by name (BAM): `known="house; tree; ..."`', f"fewshot.known={KINDS12}"),
        ),
        [(f"{n} shot{'s' if n > 1 else ''}", {"shots": str(n)}, "mIoU") for n in (1, 5)],
    ),
    "heads": HeadTable(
        "heads.csv", "mIoU",
        [
            ("`default`, zero setting, no training", {"method": "default"}),
            ("CRF masks, confidence-guided (0.95)", head("_crf", "hard", ".*")),
            ("unrefined masks, confidence-guided (0.8)", head("_none", "hard", PLAIN)),
            ("the same with `--scheme consistency` (FSR)", head("_none", "hard", ".*", "_consistency")),
            ("unrefined masks, plain cross-entropy", head("_none", "none", PLAIN)),
            ("the same with `--scheme consistency`, seed 0 only", head("_none", "none", ".*", "_consistency")),
            ("unrefined, guided, `--background 1`", head("_none", "hard", ".*--background 1.*")),
            ("unrefined, plain, `--background 1`", head("_none", "none", ".*--background 1.*")),
            ("CRF masks, one size only, confidence-guided", head("192_336_1500", "hard", ".*")),
            ("CRF masks, one size only, plain", head("192_336_1500", "none", ".*")),
        ],
        head_columns(),
    ),
    "heads_bench": Table(
        "heads_bench.csv", "batch", [(n, {"batch": n}) for n in ("1", "4", "8")],
        [("forward alone", {}, "forward_per_second"), ("caching tokens", {}, "caching_per_second"),
         ("training the decoder", {}, "training_per_second")], scale=1,
    ),
    "photos": Table(
        "photos_weak.csv", "method",
        [(f"`{m}`", {"method": m}) for m in (
            "box-fill", "box-fill+refine=superpixels", "box-fill+refine=guided", "box-fill+refine=crf",
            "box-fill+refine=pamr+max_side=250", "box-fill+refine=par+max_side=250", "seeds",
            "seeds+refine=superpixels")],
        [("boxes: mIoU", {"setting": "boxes"}, "mIoU"), ("boundary IoU", {"setting": "boxes"}, "boundary_iou"),
         ("scribbles: mIoU", {"setting": "scribbles"}, "mIoU"),
         ("boundary IoU", {"setting": "scribbles"}, "boundary_iou")],
    ),
    "words": Table(
        "words.csv", "words", [(v, {"variant": v}) for v in (
            "nano's own", "auto", "voc-clip-es", "all of imagenet7", "imagenet7 --top 1", "imagenet7 --top 3",
            "12 kinds and 88 nouns", "12 kinds and 88 names at cosine 0.7", "12 kinds and 88 names at cosine 0.8")],
        [("mIoU", {"measure": "mIoU"}, "value"), ("F1 of presence", {"measure": "F1"}, "value")],
    ),
    "regions": Table(
        "regions.csv", "regions", [(text, {"row": row}) for text, row in REGION_ROWS],
        [("mIoU", {"split": "val"}, "mIoU"), ("person", {"split": "val"}, "iou_person"),
         ("40 training pictures: mIoU", {"split": "train"}, "mIoU")], {"setting": "weak"},
    ),
}  # fmt: skip


def page(folder: Path = RESULTS, text: Path = TEXT) -> str:
    """The whole page."""
    made = text.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        if f"{{{name}}}" not in made:
            raise ValueError(f"{text} has no place for the table {{{name}}}")
        made = made.replace(f"{{{name}}}", markdown(table.lines(folder)))
    return made


if __name__ == "__main__":
    print(page(), end="")
