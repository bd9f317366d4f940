"""The commands ``bank build`` and ``bank predict``; bodies import what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipseg_ws.cli.grouping import grouped
from clipseg_ws.cli.groups import MethodOptions, ModelOptions
from clipseg_ws.cli.options import Classes, Formats, Pictures, Results, WeakSupports, option

bank_app = typer.Typer(help="Very many examples: built once, the nearest retrieved for every picture.",
                       no_args_is_help=True)  # fmt: skip
Folder = Annotated[Path, typer.Argument(help="label/picture.jpg + label/picture.png, as for --support-dir.")]
Where = Annotated[Path, option("--from", help="File of the gallery (bank build -o).")]
Count = Annotated[int, option("--nearest", min=1, help="Examples of a class for each picture.")]


@bank_app.command("build")
@grouped
def bank_build(
    folder: Folder, *, weak_supports: WeakSupports = False,
    output: Annotated[Path, option("-o", "--output", help="File to write.")] = Path("gallery.safetensors"),
    model: ModelOptions,
) -> None:  # fmt: skip
    """Make a gallery of a folder of examples: one vector a picture, masks and pictures stay where they are."""
    from clipseg_ws.fewshot.supports import read_support_dir
    from clipseg_ws.run.retrieval import build_gallery

    gallery = build_gallery(model.segmenter(), read_support_dir(folder, masks=not weak_supports))
    gallery.save(output)
    typer.echo(f"{output}: {len(gallery.supports)} examples of {len(gallery.labels)} classes")


@bank_app.command("predict")
@grouped
def bank_predict(
    pictures: Pictures, *, gallery: Where = Path("gallery.safetensors"), classes: Classes = None, nearest: Count = 5,
    output: Results = Path("clipseg_ws_out"), format: Formats = "png,overlay,json", model: MethodOptions,
) -> None:  # fmt: skip
    """Segment pictures by names (default: the gallery's) and the nearest examples of the classes that are found."""
    from clipseg_ws.fewshot.gallery import load_gallery
    from clipseg_ws.output.formats import split_formats
    from clipseg_ws.output.save import save
    from clipseg_ws.pictures.sources import list_sources
    from clipseg_ws.run.retrieval import segment_retrieved

    formats, of_folder = split_formats(format)
    if of_folder:
        raise ValueError(f"--format {', '.join(of_folder)} is of whole folders; here it is one picture a time")
    segmenter = model.segmenter()
    kept = load_gallery(gallery, segmenter.backbone.device)
    for source in list_sources(pictures, output=output):
        result = segment_retrieved(segmenter, kept, source, classes or "; ".join(kept.labels), nearest)
        save(result, output, formats, relative=source.relative)
        shown = {name: share for name, share in result.shares().items() if share and name != "background"}
        typer.echo(f"{source}: {', '.join(f'{name} {share:.0%}' for name, share in shown.items()) or 'nothing'}")
