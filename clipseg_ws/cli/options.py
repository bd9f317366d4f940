"""Command-line options that mean the same everywhere, and what they are turned into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clipseg_ws.backbones import DEFAULT_MODEL

Classes = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--classes",
        help='"cat; person, people" (; between classes, , between synonyms), a YAML file, or a name such as "voc".',
    ),
]
Model = Annotated[str, typer.Option(help='"ARCH/PRETRAINED" (open_clip), "hf:REPO", "local-dir:PATH" or "nano".')]
Features = Annotated[
    str | None,
    typer.Option(help='A second vision model for patch features, for example "hf:facebook/dinov2-base".'),
]
Head = Annotated[
    Path | None, typer.Option(help="A trained head (clipseg-ws train): its classes, one forward pass, no prompts.")
]
Background = Annotated[str | None, typer.Option(help='Background words: a list name, or "sky, grass".')]
Results = Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")]
Method = Annotated[str, typer.Option(help="Preset: default, clip-es, cam, prototypes, ...")]
Refine = Annotated[str | None, typer.Option(help="Picture refinement: none, pamr, guided, crf, ...")]
Formats = Annotated[str, typer.Option("--format", help="Files to write, separated by commas.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Pictures of one size that go through the model together.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do pictures again whose files exist.")]
Device = Annotated[str, typer.Option(help='"auto", "cpu", "cuda", "cuda:1", "mps".')]
Dtype = Annotated[str, typer.Option(help='"auto", "float32", "bfloat16" or "float16".')]
Engine = Annotated[str, typer.Option(help='"local", or "ray": spread over a Ray cluster, see the README.')]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any configuration field, for example --set alpha=2. Repeatable."),
]


def make_segmenter(
    model: str,
    method: str,
    device: str,
    dtype: str,
    offline: bool,
    settings: list[str] | None,
    *,
    features: str | None = None,
    **config: Any,
) -> Any:
    """A Segmenter from command-line options; None means "not given"."""
    from clipseg_ws.config import parse_settings
    from clipseg_ws.segmenter import Segmenter

    given = {key: value for key, value in config.items() if value is not None} | parse_settings(settings)
    if given.get("head") is not None and model == DEFAULT_MODEL:  # a head names the model that it belongs to
        from clipseg_ws.heads.file import load_head

        model = load_head(given["head"])[1].backbone
    return Segmenter(model, method=method, device=device, dtype=dtype, offline=offline, features=features, **given)


def tags_lookup(spec: str, sources: list[Any]) -> Any:
    """source -> its tags, from a file, from folder names, or the same names for all."""
    from clipseg_ws.weak.tags import lookup_tags, read_tags, tags_from_folders

    if spec == "folders":
        table = tags_from_folders(sources)
    elif Path(spec).exists():
        table = read_tags(spec)
    else:
        if Path(spec).suffix:
            raise FileNotFoundError(
                f"no tags file {spec!r}; a CSV, JSON or XML folder is needed, or names such as 'cat; dog'"
            )
        names = tuple(name.strip() for name in spec.split(";") if name.strip())
        return lambda source: names

    def find(source: Any) -> tuple[str, ...]:
        tags = lookup_tags(table, source)
        if tags is None:
            raise ValueError(f"{source} has no entry in the tags {spec!r}")
        return tags

    return find


def report_run(summary: Any, output: Path) -> None:
    """The closing lines of a folder run; exit code 1 where pictures failed."""
    typer.echo(
        f"{summary.done} done, {summary.skipped} already there, {summary.failed} failed, of {summary.total}; "
        f"files in {output}"
    )
    if summary.done:
        typer.echo(f"{summary.done / max(summary.seconds, 1e-9):.2f} pictures a second, model loading left out")
    if summary.done > 4:
        total = sum(summary.pixels.values())
        for name, count in summary.pixels.most_common():
            typer.echo(f"  {name:<24} {summary.pictures[name]:>7} pictures {count / total:>7.1%} of the pixels")
    if summary.skipped and not summary.done:
        typer.echo("nothing was done again; pass --overwrite to replace existing files")
    if summary.failed:
        typer.echo(f"failures are listed in {output / 'errors.csv'}", err=True)
        raise typer.Exit(1)
