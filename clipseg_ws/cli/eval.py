"""The evaluation's commands: ``eval_app`` (run, prepare, episodes, list), ``report`` and ``bench_app`` (model, eval).

Only typer is imported here; the bodies import what they need, so that ``clipseg-ws --help`` stays light.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from clipseg_ws.cli.options import Device, Dtype, Engine, Model, Offline, Setting
from clipseg_ws.eval.datasets import DATASETS, PREPARATIONS
from clipseg_ws.eval.protocols import PROTOCOLS
from clipseg_ws.registry import table_of


class ModelByDefault(TyperGroup):
    """``clipseg-ws bench …`` is ``clipseg-ws bench model …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put "model" in front where the first word is no sub-command and not --help."""
        if not args or (args[0] not in self.commands and args[0] not in ("--help", "-h")):
            args = ["model", *args]
        return super().parse_args(ctx, args)


class RunByDefault(TyperGroup):
    """``clipseg-ws eval DATASET …`` is ``clipseg-ws eval run DATASET …``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put "run" in front where the first word is no sub-command (and there is one besides --help)."""
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


eval_app = typer.Typer(
    cls=RunByDefault,
    no_args_is_help=True,
    help="Evaluate methods on a data set: clipseg-ws eval scenes --setting weak --model nano.",
)
bench_app = typer.Typer(
    cls=ModelByDefault, help="Measure speed on this machine: clipseg-ws bench, clipseg-ws bench eval."
)
Root = Annotated[Path | None, typer.Option(help="Folder of the data set; the error of a missing one shows its tree.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder for results.csv and the other tables.")]


@eval_app.command("run")
def run(
    dataset: Annotated[str, typer.Argument(help=f"One of {', '.join(DATASETS)}.")],
    setting: Annotated[
        str | None, typer.Option(help="zero, weak, boxes, points, scribbles, few-K, weak-few-K or oracle.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="One or several: default,cam,default+refine=none; without a network box-fill+refine=pamr, seeds; "
            "oracle and noise check the harness."
        ),
    ] = "",
    root: Root = None,
    output: Output = Path("results"),
    split: Annotated[str | None, typer.Option(help="Official split; val, for weak VOC train, by default.")] = None,
    protocol: Annotated[str, typer.Option(help=f"Preset of a paper: {', '.join(PROTOCOLS)}.")] = "default",
    model: Model = "",
    features: Annotated[
        str | None, typer.Option(help='Second vision model for patch features, e.g. "hf:facebook/dinov2-base".')
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Vocabulary name or class file in place of the data set's.")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Few-shot: fold 0 to 3.")] = None,
    episodes: Annotated[Path | None, typer.Option(help="Few-shot: frozen list (.csv, .csv.gz).")] = None,
    count: Annotated[int | None, typer.Option(help="Scenes, or episodes to draw.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the scenes in pixels.")] = None,
    seed: Annotated[int, typer.Option(help="Of drawn episodes and of noise.")] = 0,
    limit: Annotated[int | None, typer.Option(help="First pictures only.")] = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Do only every N-th picture, from the I-th; I counts from 1.")
    ] = "1/1",
    save_every: Annotated[int, typer.Option(help="Pictures between two saved states.")] = 50,
    batch_size: Annotated[int, typer.Option(help="Pictures a call.")] = 1,
    boundary: Annotated[bool, typer.Option(help="Boundary IoU.")] = True,
    sweep: Annotated[
        bool | None, typer.Option(help="Background thresholds in one pass; on for the weak setting.")
    ] = None,
    gallery: Annotated[int, typer.Option(help="Worst and best pictures to draw for the report.")] = 6,
    device: Device = "auto",
    dtype: Dtype = "auto",
    offline: Offline = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew instead of going on.")] = False,
    engine: Engine = "local",
    set_: Setting = None,
) -> None:
    """Evaluate one or several methods; a rerun of the same command goes on where the last one ended."""
    options = dict(locals())  # the parameters, by the names that Request has
    from clipseg_ws.eval.run.request import Request, run_request

    code = run_request(Request(**options), typer.echo)
    if code:
        raise typer.Exit(code)


@eval_app.command("prepare")
def prepare_command(
    task: Annotated[str, typer.Argument(help=f"One of {', '.join(PREPARATIONS)}.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    source: Annotated[
        str | None,
        typer.Option(
            help="voc-aug: SBD or ready masks; coco-object: stuffthingmaps or instances; context: .mat or JSON."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make again what is there.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Threads.")] = 2,
) -> None:
    """Make the label maps that the official layout lacks; what is already there stays."""
    from clipseg_ws.eval.datasets.prepare import prepare

    done = prepare(task, root, source=source, overwrite=overwrite, workers=workers)
    typer.echo(f"{done.made} made, {done.kept} already there, in {', '.join(done.folders)}")


@eval_app.command("episodes")
def episodes_command(
    dataset: Annotated[str, typer.Argument(help="A data set with few-shot settings, or folder, or scenes.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="List to write (.csv or .csv.gz).")],
    shots: Annotated[int, typer.Option(min=1, help="Supports an episode.")] = 1,
    root: Root = None,
    fold: Annotated[int | None, typer.Option(help="Fold 0 to 3.")] = None,
    count: Annotated[int | None, typer.Option(help="Episodes.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
) -> None:
    """Draw a few-shot episode list, the same on every machine, and write it for --episodes."""
    from clipseg_ws.eval.datasets.episode_set import EpisodeSet
    from clipseg_ws.eval.datasets.episodes import write_episodes
    from clipseg_ws.eval.datasets.load import load_dataset

    found = load_dataset(dataset, root, setting=f"few-{shots}", fold=fold, count=count, seed=seed)
    if isinstance(found, EpisodeSet):
        write_episodes(output, found.episodes)
        typer.echo(f"{len(found.episodes)} episodes of {len(found.classes)} classes in {output}")


@eval_app.command("list")
def list_command() -> None:
    """The data sets and the protocols."""
    sets = table_of(DATASETS, ("name", "kind", "summary", "paper"))
    for title, rows in (("data sets", sets), ("protocols", table_of(PROTOCOLS))):
        typer.echo(f"{title}:")
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows[1:]:
            typer.echo("  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())


def report(
    results: Annotated[Path, typer.Argument(help="Folder that clipseg-ws eval wrote.")] = Path("results"),
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for report.md and report.html; default: the same.")
    ] = None,
) -> None:
    """A Markdown and an HTML page: the runs beside the published numbers, with warnings where protocols differ."""
    from clipseg_ws.eval.report.writer import write_report

    for path in write_report(results, output):
        typer.echo(str(path))


@bench_app.command("eval")
def bench_eval(
    root: Annotated[Path | None, typer.Option(help="VOC folder; without one VOC-size masks are drawn.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Drawn masks.")] = 600,
    workers: Annotated[int, typer.Option(min=1, help="Decoding threads.")] = 2,
) -> None:
    """Pictures a second of the harness itself, with perfect predictions read from disk."""
    from clipseg_ws.eval.bench.harness import bench_eval as measure

    result = measure(root, count=count, workers=workers)
    typer.echo(f"{result['images']} pictures of VOC size, {result['cores']} cores, mIoU {result['mIoU']}")
    for name, title in (("plain", "scores"), ("with_boundary", "with boundary IoU")):
        typer.echo(f"{title}: {result[name]} pictures a second, {result[f'{name}_cpu_ms']} ms of processor time each")
    typer.echo(f"target: {result['target']:.0f} a second")
    if result["plain"] < result["target"]:
        raise typer.Exit(1)


@bench_app.command("model")
def bench_model(
    model: Annotated[str, typer.Option(help="open_clip architecture; its weights are random.")] = "ViT-B-16-quickgelu",
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16; commas between.")] = "float32,bfloat16",
    batch: Annotated[str, typer.Option(help="Pictures a call; commas between, for example 1,8,32,128.")] = "1",
    classes: Annotated[str, typer.Option(help="Numbers of classes K; commas between.")] = "2,20",
    rounds: Annotated[int, typer.Option(min=1, help="Calls that each median is over.")] = 7,
    threads: Annotated[int | None, typer.Option(min=1, help="Of torch; its own choice by default.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Compile the blocks of the whole call.")] = False,
    parts: Annotated[bool, typer.Option(help="Time of every part.")] = False,
    memory: Annotated[bool, typer.Option(help="Peak memory for three picture sizes, K = 2 to 1,000.")] = False,
    agreement: Annotated[bool, typer.Option(help="Share of equal labels in bfloat16 and float32.")] = False,
    photos: Annotated[Path | None, typer.Option(help="Folder of photos for --agreement, beside drawn scenes.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the tables as CSV files.")] = None,
) -> None:
    """The cost of segmenting beside the bare backbone, interleaved in one run; Markdown, then CSV."""
    options = dict(locals())
    from clipseg_ws.eval.bench.parts import run_bench

    run_bench(options, typer.echo)


@bench_app.command("fewshot")
def bench_fewshot(
    model: Annotated[str, typer.Option(help="open_clip architecture; its weights are random.")] = "ViT-B-16-quickgelu",
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    ways: Annotated[int, typer.Option(min=1, help="Classes.")] = 3,
    shots: Annotated[int, typer.Option(min=1, help="Examples of each.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Calls that each median is over.")] = 7,
) -> None:
    """What a bank of examples adds to a query, interleaved in one run."""
    from clipseg_ws.eval.bench.fewshot import bench_fewshot as measure
    from clipseg_ws.eval.bench.model import comma_separated, markdown

    rows = measure(model, device=device, dtype=dtype, ways=ways, shots=shots, rounds=rounds)
    typer.echo(markdown(rows) + "\n\n" + comma_separated(rows))
