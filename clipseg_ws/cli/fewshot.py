"""The command ``fewshot``; its body imports what it needs, so that ``--help`` stays light."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from clipseg_ws.backbones import DEFAULT_MODEL
from clipseg_ws.cli.options import (
    Background,
    BatchSize,
    Device,
    Dtype,
    Engine,
    Features,
    Formats,
    Method,
    Model,
    Offline,
    Overwrite,
    Refine,
    Results,
    Setting,
    make_segmenter,
    report_run,
)

_SEPARATOR = "\x1f"  # between the words of one --support, which no file name holds
_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".txt")


class SupportCommand(TyperCommand):
    """Takes ``--support IMAGE MASK [LABEL]``: two or three words, which click's options cannot."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the words of every ``--support`` into one before click sees them."""
        return super().parse_args(ctx, join_supports(args))


def join_supports(args: list[str]) -> list[str]:
    """["--support", "a.jpg", "a.png", "cat", "q.jpg"] -> ["--support", "a.jpg\\x1fa.png\\x1fcat", "q.jpg"].

    The third word is the label unless it is an option, an existing path, a URL, a glob or has the ending of a picture.
    """
    out: list[str] = []
    i = 0
    while i < len(args):
        if args[i] != "--support":
            out.append(args[i])
            i += 1
            continue
        words = args[i + 1 : i + 3]
        if len(words) == 2 and not any(w.startswith("-") and w != "-" for w in words):
            if i + 3 < len(args) and _is_label(args[i + 3]):
                words = args[i + 1 : i + 4]
            out += ["--support", _SEPARATOR.join(words)]
            i += 1 + len(words)
        else:
            out.append(args[i])
            i += 1
    return out


def _is_label(word: str) -> bool:
    looks_like_source = word.lower().endswith(_ENDINGS) or "://" in word or any(c in word for c in "*?[/\\")
    return not word.startswith("-") and not looks_like_source and not Path(word).exists()


def parse_support(word: str) -> tuple[Any, ...]:
    """One joined ``--support`` -> (image, mask or None, label or None). Raises ValueError for too few words."""
    parts = word.split(_SEPARATOR)
    if len(parts) < 2:
        raise ValueError(
            f"--support {word!r} needs a picture and a mask, for example --support a.jpg a.png cat ('-' instead of the "
            "mask: only the label is known)"
        )
    image, mask, label = (*parts, None)[:3]
    return image, None if mask == "-" else mask, label


def fewshot(
    queries: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs, list.txt files, URLs. None: only make the bank.")
    ] = None,
    support: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGE MASK [LABEL]",
            help="An example; repeatable. MASK: non-zero is the object, mask.png#8 is value 8, .json is a COCO RLE, "
            "- is unknown (LABEL only).",
        ),
    ] = None,
    support_dir: Annotated[
        Path | None, typer.Option(help="Folder of examples: label/picture.jpg + label/picture.png.")
    ] = None,
    weak_supports: Annotated[
        bool, typer.Option("--weak-supports", help="The folder has pictures without masks: label/picture.jpg.")
    ] = False,
    bank: Annotated[
        Path | None, typer.Option(help="File of encoded examples: read where it exists, extended by new ones, saved.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("-c", "--classes", help="Names that count beside the examples; by default the examples alone."),
    ] = None,
    track: Annotated[
        bool, typer.Option("--track", help="The pictures are a sequence: sure frames become examples too.")
    ] = False,
    every: Annotated[int, typer.Option(min=1, help="With --track: each so many-th frame may join.")] = 5,
    output: Results = Path("clipseg_ws_out"),
    background: Background = None,
    model: Model = DEFAULT_MODEL,
    features: Features = None,
    method: Method = "default",
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
    """Find in pictures what examples show: pictures with a mask of the thing, with or without its name."""
    from clipseg_ws.output.formats import picture_formats
    from clipseg_ws.output.save import is_done
    from clipseg_ws.pictures.sources import list_sources
    from clipseg_ws.run.folder import run_folder
    from clipseg_ws.run.tracking import Tracker

    if track and engine != "local":
        raise ValueError("--track goes from frame to frame: it needs --engine local")
    formats = picture_formats(format)
    given = given_supports(support, support_dir, weak_supports)
    if not given and (bank is None or not bank.exists()):
        raise ValueError("no examples; pass --support a.jpg a.png cat, --support-dir examples/ or --bank FILE")
    found = list_sources(queries) if queries else []
    segmenter = make_segmenter(
        model, method, device, dtype, offline, settings, features=features, refine=refine,
        batch_size=1 if track else batch_size,
    )  # fmt: skip
    examples = make_examples(segmenter, given, bank)
    typer.echo(f"examples: {', '.join(f'{label} ({count})' for label, count in examples.shots().items())}")
    if not found:
        return
    question = segmenter.ask(classes, background, supports=examples)
    tracker = None
    if track:
        tracker = Tracker(
            segmenter, examples, question, every=every, frames=found, file=output / "track.safetensors"
        )
        tracker.restore({str(s) for s in found if not overwrite and is_done(output, s.relative, formats)})

    def show(source: Any, result: Any) -> None:
        if tracker is not None:
            tracker.seen(source, result)
        for name, iou in result.extras.get("supports", ()):
            if iou < 0.3:
                typer.echo(f"{source}: example {name} does not fit (alignment {iou:.2f})")

    summary = run_folder(
        segmenter, found, output, question if tracker is None else tracker.question, formats=formats,
        overwrite=overwrite, on_result=show, engine=engine,
    )  # fmt: skip
    if tracker is not None and bank is not None:
        tracker.bank().save(bank)
    report_run(summary, output)


def given_supports(support: list[str] | None, folder: Path | None, weak: bool) -> list[Any]:
    """The examples of the command line, unread."""
    from clipseg_ws.fewshot.supports import read_support_dir

    listed: list[Any] = [parse_support(word) for word in support or []]
    return listed if folder is None else listed + list(read_support_dir(folder, masks=not weak))


def make_examples(segmenter: Any, given: list[Any], file: Path | None) -> Any:
    """The bank of the command line: loaded, extended, saved."""
    old = segmenter.bank(file) if file is not None and file.exists() else None
    if not given:
        return old
    new = segmenter.bank(given)
    joined = new if old is None else old.merge(new)
    if file is not None:
        joined.save(file)
    return joined
