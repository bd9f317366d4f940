"""The command ``pseudo``; its body imports what it needs, so that ``--help`` stays light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipseg_ws.cli.asking import check_examples, read_labels
from clipseg_ws.cli.folder import FolderOptions, fail_where
from clipseg_ws.cli.grouping import grouped
from clipseg_ws.cli.groups import ExampleOptions, MethodOptions, NameOptions, WeakOptions
from clipseg_ws.cli.options import Formats, Head, Method, Pictures, Results, option
from clipseg_ws.cli.supports import any_examples, make_examples, read_supports
from clipseg_ws.output.formats import FORMATS, split_formats

if TYPE_CHECKING:
    from clipseg_ws.fewshot.bank import SupportBank
    from clipseg_ws.output.datasets import Written
    from clipseg_ws.pictures.sources import Source
    from clipseg_ws.segmenter import Segmenter
    from clipseg_ws.stages.question import Question
    from clipseg_ws.weak.label_files import LabelFiles

Confidence = Annotated[float, option("--confidence", min=0, max=1, help="Less certain pixels become 255; 0 keeps all.")]
MissingConfidence = Annotated[
    float,
    option(
        "--missing-confidence", min=0, max=1,
        help="Less certain pixels become 255 in pictures in which a class that is said to be there got no pixel.",
    ),
]  # fmt: skip
Maps = Annotated[bool, option("--maps", help="Write the class maps too (float16, .npz).")]
Instances = Annotated[
    bool, option("--instances", help="Tell the things of one class apart: instance maps, COCO by instance.")
]
Review = Annotated[bool, option("--review", help="Write review.html, least certain pictures first.")]


@dataclass(frozen=True)
class MaskMethod(MethodOptions):
    """Masks for training are made as CLIP-ES made them, to whose certainties the threshold belongs."""

    method: Method = "clip-es"


@dataclass(frozen=True)
class MaskFolder(FolderOptions):
    """A folder of masks is a data set with settings of its own; mask and certainty are always in it."""

    output: Results = Path("clipseg_ws_pseudo")
    format: Formats = "png,confidence"


@grouped
def pseudo(
    pictures: Pictures, *, weak: WeakOptions, examples: ExampleOptions, names: NameOptions, model: MaskMethod,
    head: Head = None, confidence: Confidence = 0.95, missing_confidence: MissingConfidence = 0.0,
    maps: Maps = False, instances: Instances = False, review: Review = False, folder: MaskFolder,
) -> None:  # fmt: skip
    """Pseudo masks for a data set from tags, marks or examples; a killed run continues where it was."""
    from clipseg_ws.pictures.written import mark_output
    from clipseg_ws.run.pseudo import make_pseudo

    by_example = any_examples(examples)
    if head is not None and by_example:
        raise ValueError("a head answers alone, it takes no examples; leave out --head, or --support, --bank, ...")
    if not weak.given and not by_example:
        raise ValueError(
            "no weak labels were given; pass --tags tags.csv, --tags 'cat; dog', --marks boxes.json, or examples by "
            "--support a.jpg a.png cat"
        )
    given = read_supports(examples)
    found = folder.sources(pictures)
    labels = read_labels(found, names, weak)
    segmenter = model.segmenter(
        head=head, refine=model.refine or _best_refiner(), keep_maps=maps, instances=True if instances else None
    )
    bank = make_examples(segmenter, given, examples.bank) if by_example else None
    question = _question(segmenter, names, labels, bank)
    formats, datasets = split_formats(folder.format)
    mark_output(folder.output)
    summary = make_pseudo(
        segmenter, found, folder.output, None if labels is None else labels.labels, question, confidence=confidence,
        maps=maps, shard=folder.part, overwrite=folder.overwrite, workers=folder.workers, engine=folder.engine,
        formats=formats, missing_confidence=missing_confidence, say=typer.echo,
    )  # fmt: skip
    for line in summary.lines():
        typer.echo(line)
    _whole(found, folder, question.vocabulary.names, formats, datasets, review)
    fail_where(summary.run, folder.errors_file)


def _question(
    segmenter: Segmenter, names: NameOptions, labels: LabelFiles | None, bank: SupportBank | None
) -> Question:
    """As ``asking.ask``, but the names of all label files are the classes, whichever pictures are here."""
    spoken = [] if labels is None else labels.names()
    check_examples(names, bank, spoken)
    classes: Any = names.classes
    if classes is None and bank is None and segmenter.head is None:
        classes = spoken or None
    return segmenter.ask(classes, names.background, supports=bank)


def _whole(
    found: Sequence[Source], folder: FolderOptions, names: Sequence[str], formats: Sequence[str],
    datasets: Sequence[str], review: bool,
) -> None:  # fmt: skip
    """What looks at the whole data set: exports and the review page."""
    from clipseg_ws.run.pseudo import pseudo_entries

    wanted = [f"--format {','.join(datasets)}"] if datasets else []
    wanted += ["--review"] if review else []
    if not wanted or not folder.whole(" and ".join(wanted)):
        return
    entries = pseudo_entries(found, folder.output, formats)
    folder.write_datasets(datasets, names, entries)
    if review:
        typer.echo(f"{_review(entries, folder.output, names)} pictures in {folder.output / 'review.html'}")


def _best_refiner() -> str:
    return "crf" if find_spec("pydensecrf") else "pamr"


def _review(entries: Sequence[Written], output: Path, names: Sequence[str]) -> int:
    from clipseg_ws.output.review import Reviewed, write_review

    def confidence(mask: Path) -> Path:
        return mask.with_name(mask.name.removesuffix(".png") + str(FORMATS["confidence"].about["file"]))

    pictures = (Reviewed(e.name, e.location, e.labels, confidence(e.labels)) for e in entries)
    return write_review(output / "review.html", pictures, names)
