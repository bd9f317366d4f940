"""The commands ``train`` and ``bench heads``; their bodies import what they need, so that ``--help`` stays light."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from clipseg_ws.backbones import DEFAULT_MODEL
from clipseg_ws.cli.options import Background, Device, Dtype, Model, Offline, Setting
from clipseg_ws.config import parse_settings


def train(
    places: Annotated[
        list[str], typer.Argument(help="The folder that `pseudo` wrote; with --from-tags the pictures themselves.")
    ],
    images: Annotated[
        list[str] | None, typer.Option("--images", help="Pictures of the masks: folder, glob, list. Repeatable.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="The head's file.")] = Path("head.safetensors"),
    from_tags: Annotated[
        str | None, typer.Option(help="Tags (CSV, JSON, ...): masks are made first, then the head is trained on them.")
    ] = None,
    classes: Annotated[str | None, typer.Option("-c", "--classes", help="With --from-tags, as for pseudo.")] = None,
    background: Background = None,
    model: Model = DEFAULT_MODEL,
    kind: Annotated[str, typer.Option(help="linear, mlp, decoder or ocr.")] = "decoder",
    blocks: Annotated[str, typer.Option(help="Backbone blocks that the head reads; -1 is the last one.")] = "-3,-2,-1",
    more_scales: Annotated[
        str, typer.Option(help="Multiples of the picture's size at which the head reads it too, e.g. 0.667,1.5.")
    ] = "",
    scheme: Annotated[str, typer.Option(help="plain, consistency, rounds, cotrain or feedback.")] = "plain",
    rounds: Annotated[int, typer.Option(min=1, help="Of the schemes rounds, cotrain and feedback.")] = 2,
    unlabelled: Annotated[
        list[str] | None, typer.Option(help="Pictures without masks, for --scheme cotrain. Repeatable.")
    ] = None,
    add_to: Annotated[
        Path | None, typer.Option(help="A head to which the masks' classes are added; its own are kept.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 1500,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures a step, over all processes.")] = 16,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of weights, order and split.")] = 0,
    weighting: Annotated[str, typer.Option(help="hard (confidence threshold), soft or none.")] = "hard",
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of hard; by default 0.95 for CRF masks, 0.8 for unrefined ones, else 0.5."),
    ] = None,
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    validation: Annotated[float, typer.Option(min=0, max=0.9, help="Share of the pictures held back.")] = 0.1,
    patience: Annotated[int, typer.Option(min=0, help="Looks without a better mIoU before stopping; 0: never.")] = 0,
    augment: Annotated[bool, typer.Option("--augment", help="New views at every visit, no tokens on disk.")] = False,
    views: Annotated[
        int, typer.Option(min=1, help="Of every picture in the token store; from the 2nd on augmented.")
    ] = 1,
    paste: Annotated[
        int, typer.Option(min=0, help="Most things of other pictures that are pasted into an augmented view.")
    ] = 0,
    work: Annotated[
        Path | None, typer.Option(help="Folder of tokens, checkpoint, logs; by default beside the head's file.")
    ] = None,
    tokens: Annotated[
        Path | None,
        typer.Option(help="Folder of the tokens, to share between trainings; by default in the work folder."),
    ] = None,
    detail: Annotated[int, typer.Option(min=1, help="Targets are this many times as fine as the patch grid.")] = 4,
    device: Device = "auto",
    dtype: Dtype = "auto",
    offline: Offline = False,
    options: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Of the head: hidden, depth, ...")
    ] = None,
    train_set: Annotated[
        list[str] | None, typer.Option("--train", metavar="KEY=VALUE", help="Any field of TrainConfig. Repeatable.")
    ] = None,
    settings: Setting = None,
) -> None:
    """Train a head on masks (or straight from tags); a killed run goes on where it was. See README, Heads."""
    from clipseg_ws.heads.training import TrainConfig
    from clipseg_ws.heads.workers import find_workers
    from clipseg_ws.pictures.sources import list_sources
    from clipseg_ws.run.training.masks import open_masks
    from clipseg_ws.run.training.options import Recipe, default_threshold
    from clipseg_ws.run.training.recipe import train_head
    from clipseg_ws.segmenter import Segmenter

    work = output.with_name(output.stem + "_training") if work is None else work
    recipe = Recipe(
        kind=kind, options=parse_settings(options), blocks=_numbers("blocks", blocks, int, "-3,-2,-1"),
        more_scales=_numbers("more-scales", more_scales, float, "0.667,1.5"), validation=validation, augment=augment,
        scheme=scheme, rounds=rounds, views=views, paste=paste, detail=detail,
        add_to=None if add_to is None else str(add_to),
    )  # fmt: skip
    workers = find_workers(device)
    segmenter = Segmenter(
        model, device=str(workers.device) if workers.world > 1 else device, dtype=dtype, offline=offline,
        **parse_settings(settings),
    )  # fmt: skip
    workers = workers if workers.world > 1 else find_workers(segmenter.backbone.device)
    say: Any = typer.echo if workers.main else lambda text: None
    if from_tags is not None:
        pictures, pseudo = list_sources(places), work / "pseudo"
        _masks_from_tags(segmenter, pictures, from_tags, classes, background, pseudo, workers, say)
    elif len(places) != 1 or not images:
        raise ValueError(
            "train needs one folder of masks and its pictures: clipseg-ws train masks/ --images photos/, or "
            "clipseg-ws train --from-tags tags.csv photos/"
        )
    else:
        pictures, pseudo = list_sources(images), Path(places[0])
    masks = open_masks(pseudo)
    given: dict[str, Any] = {
        "steps": steps,
        "batch": batch_size,
        "lr": lr,
        "seed": seed,
        "weighting": weighting,
        "precision": precision,
        "patience": patience,
        "threshold": default_threshold(masks) if threshold is None else threshold,
    } | parse_settings(train_set)
    config = TrainConfig(**given)
    head = train_head(
        segmenter, pictures, masks, output, recipe=recipe, training=config, work=work, tokens=tokens,
        unlabelled=list_sources(unlabelled) if unlabelled else (), workers=workers, say=say,
    )  # fmt: skip
    score = "" if head.best_miou_ is None else f", mIoU {100 * head.best_miou_:.1f} against the held-back masks"
    say(f"{head.n_iter_} steps{score}; head in {output}, logs in {work}")


def _numbers(name: str, text: str, kind: type, example: str) -> tuple[Any, ...]:
    """ "-3,-2,-1" -> (-3, -2, -1); "" -> ()."""
    try:
        return tuple(kind(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise ValueError(f"{name} {text!r}; write numbers with commas, for example {example}") from error


def _masks_from_tags(
    segmenter: Any, pictures: list[Any], tags: str, classes: str | None, background: str | None, folder: Path,
    workers: Any, say: Any,
) -> None:  # fmt: skip
    """Masks by the weak setting with all pixels kept, made by the first process while the others wait."""
    from clipseg_ws.run.pseudo import make_pseudo
    from clipseg_ws.text.vocabulary import parse_classes
    from clipseg_ws.weak.label_files import read_label_files

    if workers.main:
        wanted = None if classes is None else parse_classes(classes)
        labels = read_label_files(tags, (), pictures, wanted)
        question = segmenter.ask(labels.names() or None if wanted is None else wanted, background)
        for line in make_pseudo(segmenter, pictures, folder, labels.labels, question, confidence=0.0).lines():
            say(line)
    workers.wait()


def bench_heads(
    model: Annotated[str, typer.Option(help='A model\'s name, or "random-vit-b-16": ViT-B/16 with random weights.')] = (
        "random-vit-b-16"
    ),
    pictures: Annotated[int, typer.Option(min=1, help="Pictures whose tokens are cached.")] = 16,
    side: Annotated[int, typer.Option(min=32, help="Side of the pictures in pixels.")] = 224,
    batches: Annotated[str, typer.Option(help="Batch sizes, commas between.")] = "1,4",
    steps: Annotated[int, typer.Option(min=1, help="Training steps a batch size.")] = 5,
    kind: Annotated[str, typer.Option(help="Head.")] = "decoder",
    device: Device = "auto",
    dtype: Dtype = "auto",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="CSV to write the table to.")] = None,
) -> None:
    """Tokens cached and a head trained: pictures a second against the bare forward, and memory, by batch size."""
    from clipseg_ws.eval.bench.heads import bench
    from clipseg_ws.eval.tables import write_table

    sizes = _numbers("batches", batches, int, "1,4")
    rows = []
    for row in bench(
        model, pictures=pictures, side=side, batches=sizes, steps=steps, kind=kind, device=device, dtype=dtype
    ):
        rows.append(row)
        typer.echo("  ".join(f"{key} {value}" for key, value in row.items()))
        if output is not None:
            write_table(output, tuple(row), rows)
