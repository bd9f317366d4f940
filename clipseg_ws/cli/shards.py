"""``predict --shards``: pictures that are streamed, results in Parquet files; ``unpack`` makes PNGs of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipseg_ws.cli.folder import FolderOptions
from clipseg_ws.cli.groups import NameOptions, WeakOptions
from clipseg_ws.cli.options import Limit, Results, option

if TYPE_CHECKING:
    from clipseg_ws.run.sharded import ShardCounts
    from clipseg_ws.segmenter import Segmenter

FAILURES = "errors.csv"
Place = Annotated[str, typer.Argument(help="Folder of shards, one shard, or s3://bucket/folder.")]
Confident = Annotated[
    float, option("--confidence", min=0.0, max=1.0, help="Classes of a lower mean confidence become 255, ignored.")
]


def parse_shards(text: str, output: str | Path) -> tuple[str, int]:
    """ "500", "s3://bucket/out" or "s3://bucket/out, 500" -> (place, pictures a shard).

    Raises ValueError for anything else.
    """
    from clipseg_ws.pictures.units import SIZE

    place, _, number = text.strip().rpartition(",")
    if number.strip().isdigit():
        place, size = place.strip() or str(output), int(number)
    else:
        place, size = text.strip(), SIZE
    if not place or size < 1:
        raise ValueError(f"--shards {text!r}; pictures a shard, a place, or both are needed, e.g. 1000 or 'out/, 1000'")
    return place, size


def predict_shards(
    pictures: Sequence[str], names: NameOptions, weak: WeakOptions, load: Callable[[], Segmenter],
    folder: FolderOptions, shards: str,
) -> None:  # fmt: skip
    """The body of ``predict --shards``; ``load`` gives the Segmenter.

    Raises ValueError for options that do not go with it, and as ``list_units`` and ``run_sharded``.
    """
    from clipseg_ws.output.shards import needs_pyarrow
    from clipseg_ws.pictures.objects import is_object_store
    from clipseg_ws.pictures.units import list_units
    from clipseg_ws.pictures.written import mark_output
    from clipseg_ws.run.sharded import run_sharded

    needs_pyarrow()
    check_options(weak, folder)
    place, size = parse_shards(shards, folder.output)
    units = list_units(list(pictures), size, output=place)
    first = next(units)  # a place without pictures should not cost the loading of a model
    segmenter = load()
    question = segmenter.ask(names.classes, names.background)
    if not is_object_store(place):
        mark_output(place)
    number, of = folder.part
    mine = islice(_again(first, units), number - 1, None, of)
    counts = run_sharded(
        segmenter, mine, place, question, overwrite=folder.overwrite, workers=folder.workers, engine=folder.engine
    )
    report(counts, place)


def check_options(weak: WeakOptions, folder: FolderOptions) -> None:
    """Raise ValueError for options that --shards would not look at."""
    other = {"--tags or --marks": weak.given, "--format": folder.format != FolderOptions.format,
             "--limit": folder.limit is not None}  # fmt: skip
    for name, given in other.items():
        if given:
            raise ValueError(
                f"{name} does not go with --shards, which streams pictures and keeps label maps; leave it out (label "
                "PNGs: clipseg-ws unpack SHARDS -o FOLDER; a part of the shards: --shard I/N)"
            )


def report(counts: ShardCounts, place: str) -> None:
    """The closing lines; exit code 1 where units were lost, which a rerun does."""
    typer.echo(
        f"{counts.shards} shards written, {counts.kept} already there, in {place}; {counts.done} pictures done, "
        f"{counts.failed} failed (rows with an error)"
    )
    if counts.done:
        typer.echo(f"{counts.done / max(counts.seconds, 1e-9):.2f} pictures a second, model loading left out")
    for reason, number in counts.again.most_common():
        typer.echo(f"{number} shards done again: {reason}")
    for reason in counts.reasons:
        typer.echo(f"failed: {reason}", err=True)
    if counts.lost:
        typer.echo(f"{counts.lost} shards were not made; the same command does what is missing", err=True)
        raise typer.Exit(1)


def unpack(
    shards: Place, output: Results = Path("clipseg_ws_out"), limit: Limit = None, confidence: Confident = 0.0,
) -> None:  # fmt: skip
    """Label PNGs of the results that predict --shards wrote; failures are listed in errors.csv."""
    from clipseg_ws.pictures.written import mark_output
    from clipseg_ws.run.unpacking import unpack_shards

    mark_output(output)
    done, failed = unpack_shards(shards, output, limit=limit, confidence=confidence)
    typer.echo(f"{done} label PNGs in {output}; {failed} pictures without a result")
    if failed:
        typer.echo(f"they are listed in {output / FAILURES}", err=True)


def _again(first: Any, others: Any) -> Any:
    yield first
    yield from others
