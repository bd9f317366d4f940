"""The command line ``clipseg-ws``: a thin client of the public API. Command bodies import what they need."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="clipseg-ws",
    help="Semantic segmentation with a frozen CLIP: by class names, by example masks, by weak labels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
prompts_app = typer.Typer(help="Inspect vocabularies and templates; rank templates by sharpness.", no_args_is_help=True)
app.add_typer(prompts_app, name="prompts")
bench_app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")

DEFAULT_MODEL = "ViT-B-16-quickgelu/openai"

Classes = Annotated[
    str | None,
    typer.Option(
        "-c",
        "--classes",
        help='"cat; person, people" (; between classes, , between synonyms), a YAML file, or a name such as "voc".',
    ),
]
Model = Annotated[str, typer.Option(help='"ARCH/PRETRAINED" (open_clip), "hf:REPO", "local-dir:PATH" or "nano".')]
Device = Annotated[str, typer.Option(help='"auto", "cpu", "cuda", "cuda:1", "mps".')]
Dtype = Annotated[str, typer.Option(help='"auto", "float32", "bfloat16" or "float16".')]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any configuration field, for example --set alpha=2. Repeatable."),
]


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
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("clipseg_ws_out"),
    tags: Annotated[
        str | None,
        typer.Option(
            help="Weak setting: a tags file (CSV, JSON, COCO json, a folder of VOC XML), the word folders, or names "
            'such as "cat; dog" for all pictures.'
        ),
    ] = None,
    background: Annotated[str | None, typer.Option(help='Background words: a list name, or "sky, grass".')] = None,
    model: Model = DEFAULT_MODEL,
    method: Annotated[str, typer.Option(help="Preset: default, clip-es, cam, ...")] = "default",
    refine: Annotated[str | None, typer.Option(help="Picture refinement: none, pamr, guided, crf, ...")] = None,
    format: Annotated[str, typer.Option(help="Files to write, separated by commas.")] = "png,overlay,json",
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures of one size that go through the model together.")
    ] = 8,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do pictures again whose files exist.")] = False,
    offline: Offline = False,
    settings: Setting = None,
) -> None:
    """Segment pictures by class names, or by image tags with --tags."""
    from clipseg_ws.output import check_formats, format_table
    from clipseg_ws.runner import run_folder
    from clipseg_ws.sources import list_sources

    formats = check_formats(format)
    found = list_sources(sources)
    segmenter = _segmenter(model, method, device, dtype, offline, settings, refine=refine, batch_size=batch_size)
    lookup = _tags(tags, found) if tags is not None else None

    def show(source: Any, result: Any) -> None:
        if len(found) <= 4:
            typer.echo(f"{source}\n{format_table(result)}")

    summary = run_folder(
        segmenter, found, output, formats=formats, overwrite=overwrite, tags=lookup, classes=classes,
        background=background, on_result=show,
    )  # fmt: skip
    _report(summary, output)
    if summary.failed:
        raise typer.Exit(1)


def _segmenter(
    model: str, method: str, device: str, dtype: str, offline: bool, settings: list[str] | None, **config: Any
) -> Any:
    """A Segmenter from command-line options; None means "not given"."""
    from clipseg_ws.pipeline import Segmenter

    given = {key: value for key, value in config.items() if value is not None} | _parse_settings(settings)
    return Segmenter(model, method=method, device=device, dtype=dtype, offline=offline, **given)


def _parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """["alpha=2", "affinity=false"] -> values as YAML reads them."""
    import yaml

    parsed = {}
    for item in settings or []:
        key, sign, value = item.partition("=")
        if not sign:
            raise ValueError(f"--set {item!r} has no '='; write KEY=VALUE, for example --set alpha=2")
        parsed[key.strip()] = yaml.safe_load(value)
    return parsed


def _tags(spec: str, sources: list[Any]) -> Any:
    """source -> its tags, from a file, from folder names, or the same names for all."""
    from clipseg_ws.weak import lookup_tags, read_tags, tags_from_folders

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


def _report(summary: Any, output: Path) -> None:
    """The closing lines of a folder run."""
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


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output")] = Path("clipseg_ws_demo"),
    seed: Annotated[int, typer.Option(help="Which scene to draw (held-out seeds start at 10000000).")] = 10_000_007,
    size: Annotated[int, typer.Option(min=64, max=1024, help="Side of the drawn picture in pixels.")] = 224,
) -> None:
    """Draw a scene, segment it by names and by tags with the embedded model, write pictures. Needs no network."""
    from clipseg_ws.demo import run_demo

    for line in run_demo(output, seed=seed, size=size):
        typer.echo(line)


@app.command()
def doctor(device: Device = "auto", dtype: Dtype = "auto") -> None:
    """Versions, devices, cached weights, and one picture through the embedded model."""
    from clipseg_ws.doctor import examine

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


@prompts_app.command("list")
def prompts_list() -> None:
    """Names of the vocabularies, template lists and background lists that come with the package."""
    from clipseg_ws.prompt_lists import list_backgrounds, list_templates, list_vocabularies

    for title, names in (
        ("vocabularies", list_vocabularies()),
        ("templates", list_templates()),
        ("backgrounds", list_backgrounds()),
    ):
        typer.echo(f"{title}: {', '.join(names)}")


@prompts_app.command("show")
def prompts_show(
    classes: Annotated[str, typer.Argument(help='A vocabulary name, a YAML file, or "cat; person, people".')],
) -> None:
    """What is really encoded for a vocabulary: words, background, templates."""
    from clipseg_ws.text_embeddings import texts
    from clipseg_ws.vocabulary import parse_classes

    vocabulary = parse_classes(classes)
    words, owner = texts(vocabulary)
    for index, name in enumerate(vocabulary.names):
        mine = [word for word, o in zip(words, owner, strict=True) if o == index]
        typer.echo(f"{index + 1:>4} {name}: {' | '.join(mine)}")
    typer.echo(f"background: {', '.join(vocabulary.background) or 'none (the default list is used)'}")
    typer.echo(f"templates ({len(vocabulary.templates)}): {' | '.join(vocabulary.templates)}")


@prompts_app.command("rank")
def prompts_rank(
    sources: Annotated[list[str], typer.Argument(help="Pictures, as for predict.")],
    classes: Classes = None,
    templates: Annotated[
        str, typer.Option(help="Name of a template list, or templates separated by |.")
    ] = "imagenet80",
    tags: Annotated[
        str | None, typer.Option(help="Tags of the pictures, as for predict; without, all classes.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many to print.")] = 10,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    offline: Offline = False,
) -> None:
    """Rank prompt templates by sharpness on your pictures (CLIP-ES): the smaller the better."""
    from clipseg_ws.prompt_lists import load_templates
    from clipseg_ws.prompt_selection import rank_templates
    from clipseg_ws.runner import pooled_embeddings
    from clipseg_ws.sources import list_sources

    found = list_sources(sources)
    candidates = load_templates(templates.split("|") if "{}" in templates else templates)
    segmenter = _segmenter(model, "default", device, dtype, offline, None)
    lookup = _tags(tags, found) if tags is not None else None
    vocabulary = segmenter.vocabulary(classes)
    embeddings, kept = pooled_embeddings(segmenter, found)
    names = None if lookup is None else [lookup(source) for source in kept]
    ranked = rank_templates(
        embeddings, segmenter.backbone.encode_text, vocabulary, candidates,
        logit_scale=segmenter.backbone.logit_scale, tags=names,
    )  # fmt: skip
    typer.echo(f"sharpness of {len(candidates)} templates on {len(kept)} pictures (smaller is better)")
    for template, value in ranked[:top]:
        typer.echo(f"{value:.6f}  {template}")


def _mount() -> None:
    """Commands that live in files of their own; importing their fronts is light."""
    from clipseg_ws.commands_weak import pseudo
    from clipseg_ws.eval.cli import bench_eval, eval_app, report

    app.command("pseudo")(pseudo)
    app.add_typer(eval_app, name="eval")
    app.command("report")(report)
    bench_app.command("eval")(bench_eval)


_mount()

if __name__ == "__main__":
    main()
