"""The command ``pseudo``; its body imports what it needs, so that ``--help`` stays light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from clipseg_ws.backbones import DEFAULT_MODEL
from clipseg_ws.cli.options import (
    Background,
    BatchSize,
    Device,
    Dtype,
    Engine,
    Method,
    Model,
    Offline,
    Overwrite,
    Setting,
)
from clipseg_ws.config import parse_settings


def pseudo(
    sources: Annotated[list[str], typer.Argument(help="Files, folders, globs, list.txt files.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the masks.")] = Path("clipseg_ws_pseudo"),
    tags: Annotated[
        str | None,
        typer.Option(help="CSV, JSON, COCO json, a folder of VOC XML, the word folders, or names for all pictures."),
    ] = None,
    marks: Annotated[
        list[Path] | None,
        typer.Option(help="Boxes, points, scribbles: VOC XML, COCO, LabelMe, Label Studio json, PNG. Repeatable."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option("-c", "--classes", help="As for predict; by default those that the labels name.")
    ] = None,
    background: Background = None,
    model: Model = DEFAULT_MODEL,
    method: Method = "clip-es",
    refine: Annotated[
        str | None, typer.Option(help="Picture refinement; by default crf where it is installed, else pamr.")
    ] = None,
    confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Less certain pixels become 255; 0 keeps all.")
    ] = 0.95,
    maps: Annotated[bool, typer.Option("--maps", help="Write the class maps too (float16, .npz).")] = False,
    instances: Annotated[
        bool, typer.Option("--instances", help="Tell the things of one class apart: instance maps, COCO by instance.")
    ] = False,
    format: Annotated[
        str, typer.Option(help="More files of every picture, or the data set once more: see list formats.")
    ] = "",
    review: Annotated[bool, typer.Option("--review", help="Write review.html, least certain pictures first.")] = False,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Do only every N-th picture, from the I-th.")] = "1/1",
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = 8,
    workers: Annotated[int, typer.Option(min=1, help="Threads that decode, and as many that write.")] = 2,
    engine: Engine = "local",
    overwrite: Overwrite = False,
    offline: Offline = False,
    settings: Setting = None,
) -> None:
    """Pseudo masks for a data set from tags, boxes, points or scribbles; a killed run continues where it was."""
    from clipseg_ws.output.formats import split_formats
    from clipseg_ws.pictures.sources import list_sources
    from clipseg_ws.run.pseudo import make_pseudo
    from clipseg_ws.run.shards import parse_shard
    from clipseg_ws.segmenter import Segmenter
    from clipseg_ws.text.vocabulary import parse_classes

    formats, datasets = split_formats(f"png,{format}")
    part = parse_shard(shard)
    found = list_sources(sources)
    wanted = None if classes is None else parse_classes(classes)
    weak, named = weak_reader(tags, marks or [], found, wanted)
    config: dict[str, Any] = {"batch_size": batch_size, "refine": refine or _best_refiner(), "keep_maps": maps}
    config |= {"instances": True} if instances else {}
    segmenter = Segmenter(
        model, method=method, device=device, dtype=dtype, offline=offline, **config | parse_settings(settings)
    )
    question = segmenter.ask(wanted if wanted is not None else named or None, background)
    summary = make_pseudo(
        segmenter, found, output, weak, question, confidence=confidence, maps=maps, shard=part,
        overwrite=overwrite, workers=workers, engine=engine, formats=formats,
    )  # fmt: skip
    for line in summary.lines():
        typer.echo(line)
    _whole(found, output, question.vocabulary.names, datasets, review, part)
    if summary.run.failed:
        typer.echo(f"failures are listed in errors*.csv in {output}", err=True)
        raise typer.Exit(1)


def _whole(
    found: list[Any], output: Path, names: tuple[str, ...], datasets: tuple[str, ...], review: bool,
    part: tuple[int, int],
) -> None:  # fmt: skip
    """What looks at the whole data set: exports and the review page."""
    from clipseg_ws.output.datasets import write_datasets
    from clipseg_ws.run.pseudo import pseudo_entries

    if not datasets and not review:
        return
    if part[1] > 1:
        typer.echo("--format and --review look at the whole data set: run again without --shard when all are done")
        return
    write_datasets(datasets, output, names, pseudo_entries(found, output))
    if review:
        typer.echo(f"{_review(found, output, names)} pictures in {output / 'review.html'}")


def weak_reader(
    tags: str | None, marks: list[Path], sources: list[Any], classes: Any
) -> tuple[Callable[[Any], Any], list[str]]:
    """(source -> its ``WeakLabels``, the names that occur) from a tags option and files of marks.

    Raises ValueError where neither is given; the function raises it for a picture that no file holds.
    """
    from clipseg_ws.structures import WeakLabels
    from clipseg_ws.weak.marks import lookup_marks, merge_marks, read_marks
    from clipseg_ws.weak.tags import lookup_tags, read_tags, tags_from_folders

    if tags is None and not marks:
        raise ValueError("no weak labels were given; pass --tags tags.csv, --tags 'cat; dog' or --marks boxes.json")
    everywhere: tuple[str, ...] | None = None
    table = None
    if tags == "folders":
        table = tags_from_folders(sources, classes)
    elif tags is not None and Path(tags).exists():
        table = read_tags(tags, classes)
    elif tags is not None:
        if Path(tags).suffix:
            raise FileNotFoundError(f"no tags file {tags!r}; a CSV, JSON or XML folder is needed, or names 'cat; dog'")
        everywhere = tuple(name.strip() for name in tags.split(";") if name.strip())
    files = [read_marks(path, classes) for path in marks]
    names = {name for entry in (table or {}).values() for name in entry} | set(everywhere or ())
    names |= {name for file in files for name in file.classes()}

    def find(source: Any) -> WeakLabels:
        listed = everywhere if table is None else lookup_tags(table, source)
        parts = [] if listed is None else [WeakLabels(tags=listed)]
        parts += [entry for file in files if (entry := lookup_marks(file, source)) is not None]
        if not parts:
            raise ValueError(f"{source} has no entry in the weak labels")
        result = parts[0]
        for part in parts[1:]:
            result = merge_marks(result, part)
        return result

    return find, sorted(names)


def _best_refiner() -> str:
    from importlib.util import find_spec

    return "crf" if find_spec("pydensecrf") else "pamr"


def _review(sources: list[Any], output: Path, names: tuple[str, ...]) -> int:
    from clipseg_ws.output.review import Reviewed, write_review
    from clipseg_ws.output.save import output_paths
    from clipseg_ws.run.pseudo import pseudo_entries

    def pictures() -> Any:
        for entry in pseudo_entries(sources, output):
            (confidence,) = output_paths(entry.labels.parent, entry.labels.stem, "confidence")
            yield Reviewed(entry.name, entry.location, entry.labels, confidence)

    return write_review(output / "review.html", pictures(), names)
