"""The commands ``eval run`` (which ``eval DATASET`` means), ``prepare``, ``episodes`` and ``list``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from clipseg_ws.cli.default_command import DefaultGroup
from clipseg_ws.cli.grouping import grouped
from clipseg_ws.cli.options import (
    BatchSize,
    Device,
    Dtype,
    Engine,
    Features,
    Limit,
    NamedModel,
    Offline,
    Overwrite,
    Root,
    Seed,
    Setting,
    Shard,
    Tables,
    Workers,
    option,
    some_of,
)  # fmt: skip
from clipseg_ws.cli.tables import aligned
from clipseg_ws.eval.datasets import DATASETS, PREPARATIONS
from clipseg_ws.eval.protocols import PROTOCOLS
from clipseg_ws.registry import table_of

eval_app = typer.Typer(
    cls=DefaultGroup,
    no_args_is_help=True,
    help="Evaluate methods on a data set: clipseg-ws eval scenes --setting weak --model nano.",
)
Dataset = Annotated[str, typer.Argument(help=f"{some_of(DATASETS).capitalize()}.")]
What = Annotated[
    str | None, option("--setting", help="zero, weak, boxes, points, scribbles, few-K, weak-few-K or oracle.")
]
Methods = Annotated[
    str,
    option(
        "--method",
        help="One or several: default,cam,default+refine=none; without a network box-fill+refine=pamr, seeds; "
        "oracle and noise check the harness.",
    ),
]
Protocol = Annotated[str, option("--protocol", help=f"Preset of a paper, {some_of(PROTOCOLS)}.")]
SettingsOf = Annotated[
    str,
    option("--settings-of", help="What counts where no setting is given: model, what it recommends, or default."),
]
Fold = Annotated[int | None, option("--fold", help="Few-shot: fold 0 to 3.")]
Count = Annotated[int | None, option("--count", help="Scenes, or episodes to draw.")]
Task = Annotated[str, typer.Argument(help=f"{some_of(PREPARATIONS).capitalize()}.")]


@dataclass(frozen=True)
class EvalOptions:
    """What ``eval.run.request.Request`` takes, by its names."""

    setting: What = None
    method: Methods = ""
    root: Root = None
    output: Tables = Path("results")
    split: Annotated[str | None, option("--split", help="Official split; val, for weak VOC train, by default.")] = None
    protocol: Protocol = "default"
    model: NamedModel = None  # the data set's own
    features: Features = None
    prompts: Annotated[
        str | None, option("--prompts", help="Vocabulary name or class file in place of the data set's.")
    ] = None
    fold: Fold = None
    episodes: Annotated[Path | None, option("--episodes", help="Few-shot: frozen list (.csv, .csv.gz).")] = None
    count: Count = None
    size: Annotated[int | None, option("--size", help="Side of the drawn scenes in pixels.")] = None
    seed: Seed = 0
    limit: Limit = None
    shard: Shard = "1/1"
    save_every: Annotated[int, option("--save-every", help="Pictures between two saved states.")] = 50
    batch_size: BatchSize = 8
    boundary: Annotated[bool, option("--boundary/--no-boundary", help="Boundary IoU.")] = True
    sweep: Annotated[
        bool | None,
        option("--sweep/--no-sweep", help="Background thresholds in one pass; on for the weak setting."),
    ] = None
    gallery: Annotated[int, option("--gallery", help="Worst and best pictures to draw for the report.")] = 6
    device: Device = "auto"
    dtype: Dtype = "auto"
    offline: Offline = False
    overwrite: Overwrite = False
    engine: Engine = "local"
    settings_of: SettingsOf = "model"
    set_: Setting = None


@eval_app.command("run")
@grouped
def run(dataset: Dataset, *, options: EvalOptions) -> None:
    """Evaluate one or several methods; a rerun of the same command goes on where the last one ended."""
    from clipseg_ws.eval.run.request import Request, run_request

    code = run_request(Request(dataset, **vars(options)), typer.echo)
    if code:
        raise typer.Exit(code)


@eval_app.command("prepare")
def prepare_command(
    task: Task,
    root: Annotated[Path, option("--root", help="Folder of the data set.")],
    source: Annotated[
        str | None,
        option(
            "--source",
            help="voc-aug: SBD or ready masks; coco-object: stuffthingmaps or instances; context: .mat or JSON.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    workers: Workers = 2,
) -> None:
    """Make the label maps that the official layout lacks; what is already there stays."""
    from clipseg_ws.eval.datasets.prepare import prepare

    done = prepare(task, root, source=source, overwrite=overwrite, workers=workers)
    typer.echo(f"{done.made} made, {done.kept} already there, in {', '.join(done.folders)}")


@eval_app.command("episodes")
def episodes_command(
    dataset: Dataset,
    output: Annotated[Path, option("-o", "--output", help="List to write (.csv or .csv.gz).")],
    shots: Annotated[int, option("--shots", min=1, help="Supports an episode.")] = 1,
    root: Root = None,
    fold: Fold = None,
    count: Count = None,
    seed: Seed = 0,
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
    """The data sets and the protocols; see clipseg-ws list datasets too."""
    sets = table_of(DATASETS, ("name", "kind", "summary", "paper"))
    for title, rows in (("data sets", sets), ("protocols", table_of(PROTOCOLS))):
        typer.echo(f"{title}:")
        for line in aligned(rows[1:]):
            typer.echo(f"  {line}")
