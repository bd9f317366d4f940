"""The command line ``clipseg-ws``: a thin client of the public API. Command bodies import what they need."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clipseg_ws.backbones import DEFAULT_MODEL
from clipseg_ws.cli.options import (
    Background,
    BatchSize,
    Classes,
    Device,
    Dtype,
    Engine,
    Features,
    Formats,
    Head,
    Method,
    Model,
    Offline,
    Overwrite,
    Refine,
    Results,
    Setting,
    make_segmenter,
    report_run,
    tags_lookup,
)

app = typer.Typer(
    name="clipseg-ws",
    help="Semantic segmentation with a frozen CLIP: by class names, by example masks, by weak labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Entry point: errors that a user can mend are one line, not a trace."""
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        typer.echo(f"clipseg-ws: {error}", err=True)
        sys.exit(2)


def _version(value: bool) -> None:
    if value:
        from clipseg_ws import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def predict(
    sources: Annotated[list[str], typer.Argument(help="Files, folders, globs, list.txt files, http(s) URLs.")],
    classes: Classes = None,
    output: Results = Path("clipseg_ws_out"),
    tags: Annotated[
        str | None,
        typer.Option(
            help="Weak setting: a tags file (CSV, JSON, COCO json, a folder of VOC XML), the word folders, or names "
            'such as "cat; dog" for all pictures.'
        ),
    ] = None,
    background: Background = None,
    model: Model = DEFAULT_MODEL,
    method: Method = "default",
    features: Features = None,
    head: Head = None,
    refine: Refine = None,
    format: Formats = "png,overlay,json",
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = 8,
    overwrite: Overwrite = False,
    engine: Engine = "local",
    offline: Offline = False,
    settings: Setting = None,
) -> None:
    """Segment pictures by class names, or by image tags with --tags."""
    from clipseg_ws.output.formats import picture_formats
    from clipseg_ws.output.table import format_table
    from clipseg_ws.pictures.sources import list_sources
    from clipseg_ws.run.folder import names_in, run_folder

    formats = picture_formats(format)
    found = list_sources(sources)
    segmenter = make_segmenter(
        model, method, device, dtype, offline, settings, features=features, refine=refine, batch_size=batch_size,
        head=head,
    )  # fmt: skip
    lookup = tags_lookup(tags, found) if tags is not None else None

    def show(source: Any, result: Any) -> None:
        if len(found) <= 4:
            typer.echo(f"{source}\n{format_table(result)}")

    question = segmenter.ask(classes, background, tags=None if lookup is None else names_in(lookup, found))
    summary = run_folder(
        segmenter, found, output, question, formats=formats, overwrite=overwrite, tags=lookup, on_result=show,
        engine=engine,
    )  # fmt: skip
    report_run(summary, output)


@app.command()
def doctor(device: Device = "auto", dtype: Dtype = "auto") -> None:
    """Versions, devices, cached weights, and one picture through the embedded model."""
    from clipseg_ws.cli.doctor import examine

    healthy = True
    for line, good in examine(device, dtype):
        typer.echo(line)
        healthy &= good
    if not healthy:
        raise typer.Exit(1)


@app.command()
def download(model: Annotated[str, typer.Argument(help='"ARCH/PRETRAINED" or "hf:REPO".')]) -> None:
    """Fetch a model's weights into the cache, so that --offline works afterwards."""
    from clipseg_ws.backbones import download as fetch

    for path in fetch(model):
        typer.echo(str(path))


def _mount() -> None:
    """Commands that live in files of their own; importing their fronts is light."""
    from clipseg_ws.cli.bench_heads import bench_heads
    from clipseg_ws.cli.demo import demo
    from clipseg_ws.cli.eval import bench_app, eval_app, report
    from clipseg_ws.cli.fewshot import SupportCommand, fewshot
    from clipseg_ws.cli.prompts import prompts_app
    from clipseg_ws.cli.pseudo import pseudo
    from clipseg_ws.cli.train import train

    app.command("fewshot", cls=SupportCommand)(fewshot)
    app.command("pseudo")(pseudo)
    app.command("train")(train)
    bench_app.command("heads")(bench_heads)
    app.command("demo")(demo)
    app.add_typer(prompts_app, name="prompts")
    app.add_typer(eval_app, name="eval")
    app.command("report")(report)
    app.add_typer(bench_app, name="bench")


_mount()

if __name__ == "__main__":
    main()
