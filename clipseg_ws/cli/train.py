"""The command ``train``; its body imports what it needs, so that ``--help`` stays light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clipseg_ws.backbones import DEFAULT_MODEL
from clipseg_ws.backbones.choice import WITHOUT_DOWNLOAD
from clipseg_ws.cli.options import Background, BatchSize, Device, Dtype, NamedModel, Offline, Setting
from clipseg_ws.heads import HEADS, SCHEMES, WEIGHTINGS
from clipseg_ws.heads.options import TrainConfig
from clipseg_ws.registry import parse_spec
from clipseg_ws.run.training.options import Recipe
from clipseg_ws.values import read_pairs

if TYPE_CHECKING:
    from clipseg_ws.heads.workers import Alone
    from clipseg_ws.pictures.sources import Source
    from clipseg_ws.run.training.masks import MaskFolder
    from clipseg_ws.segmenter import Segmenter

Places = Annotated[
    list[str], typer.Argument(help="The folder that `pseudo` wrote; with --from-tags the pictures themselves.")
]
Images = Annotated[
    list[str] | None, typer.Option("--images", help="Pictures of the masks: folder, glob, list. Repeatable.")
]
Output = Annotated[Path, typer.Option("-o", "--output", help="The head's file.")]
FromTags = Annotated[
    str | None, typer.Option(help="Tags (CSV, JSON, ...): masks are made first, then the head is trained on them.")
]
TagClasses = Annotated[str | None, typer.Option("-c", "--classes", help="With --from-tags, as for pseudo.")]
Kind = Annotated[
    str, typer.Option(help=f'{", ".join(HEADS)}; with parameters in brackets, e.g. "decoder(hidden=128, depth=1)".')
]
Blocks = Annotated[str, typer.Option(help="Backbone blocks that the head reads; -1 is the last one.")]
MoreScales = Annotated[
    str, typer.Option(help="Multiples of the picture's size at which the head reads it too, e.g. 0.667,1.5.")
]
Scheme = Annotated[
    str, typer.Option(help=f'{", ".join(SCHEMES)}; with parameters in brackets, e.g. "rounds(rounds=3, sure=0.7)".')
]
Unlabelled = Annotated[list[str] | None, typer.Option(help="Pictures without masks, for --scheme cotrain. Repeatable.")]
AddTo = Annotated[Path | None, typer.Option(help="A head to which the masks' classes are added; its own are kept.")]
Steps = Annotated[int, typer.Option(min=1, help="Optimiser steps.")]
Rate = Annotated[float, typer.Option(help="Highest learning rate.")]
Seed = Annotated[int, typer.Option(min=0, help="Of weights, order and split.")]
Weighting = Annotated[
    str, typer.Option(help="; ".join(f"{name}: {entry.summary}" for name, entry in WEIGHTINGS.items()) + ".")
]
Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Of hard; by default 0.95 for CRF masks, 0.8 for unrefined ones, else 0.5."),
]
Validation = Annotated[float, typer.Option(min=0, max=0.9, help="Share of the pictures held back.")]
Augment = Annotated[bool, typer.Option("--augment", help="New views at every visit, no tokens on disk.")]
ViewCount = Annotated[int, typer.Option(min=1, help="Of every picture in the token store; from the 2nd on augmented.")]
Paste = Annotated[
    int, typer.Option(min=0, help="Most things of other pictures that are pasted into an augmented view.")
]
Detail = Annotated[int, typer.Option(min=1, help="Targets are this many times as fine as the patch grid.")]
Work = Annotated[
    Path | None, typer.Option(help="Folder of tokens, checkpoint, logs; by default beside the head's file.")
]
TokenFolder = Annotated[
    Path | None, typer.Option(help="Folder of the tokens, to share between trainings; by default in the work folder.")
]
TrainSet = Annotated[
    list[str] | None,
    typer.Option("--train", metavar="KEY=VALUE", help=f"Any of {', '.join(TrainConfig().as_dict())}. Repeatable."),
]


def train(
    places: Places,
    images: Images = None,
    output: Output = Path("head.safetensors"),
    from_tags: FromTags = None,
    classes: TagClasses = None,
    background: Background = None,
    model: NamedModel = None,
    kind: Kind = "decoder",
    blocks: Blocks = "-3,-2,-1",
    more_scales: MoreScales = "",
    scheme: Scheme = "plain",
    unlabelled: Unlabelled = None,
    add_to: AddTo = None,
    steps: Steps = 1500,
    lr: Rate = 1e-3,
    seed: Seed = 0,
    weighting: Weighting = "hard",
    threshold: Threshold = None,
    validation: Validation = 0.1,
    augment: Augment = False,
    views: ViewCount = 1,
    paste: Paste = 0,
    detail: Detail = 4,
    work: Work = None,
    tokens: TokenFolder = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = 8,
    offline: Offline = False,
    train_set: TrainSet = None,
    settings: Setting = None,
) -> None:
    """Train a head on masks (or straight from tags); a killed run goes on where it was. See docs/heads.md."""
    recipe = _recipe(kind, blocks, more_scales, scheme, validation, augment, views, paste, detail, add_to)
    given = _given(steps, lr, seed, weighting, threshold, train_set)
    work = output.with_name(output.stem + "_training") if work is None else work
    workers, segmenter = _open(_named(model, places, images, from_tags), device, dtype, offline, batch_size, settings)
    pictures, masks = _masks(segmenter, workers, places, images, from_tags, classes, background, work)
    _fit(segmenter, workers, pictures, masks, unlabelled or [], recipe, given, output, work, tokens)


def _named(model: str | None, places: list[str], images: list[str] | None, from_tags: str | None) -> str:
    """The model; ValueError where it, or masks with pictures or tags, were not given, before anything is loaded."""
    if from_tags is None and (len(places) != 1 or not images):
        raise ValueError(
            "train needs one folder of masks and its pictures: clipseg-ws train masks/ --images photos/, or "
            "clipseg-ws train --from-tags tags.csv photos/"
        )
    if model is None:  # what a head was trained on should not hang on what is on a machine
        raise ValueError(
            f"train needs a model: --model {DEFAULT_MODEL}, or --model {WITHOUT_DOWNLOAD}, which came with the package"
        )
    return model


def _recipe(
    kind: str, blocks: str, more_scales: str, scheme: str, validation: float, augment: bool, views: int, paste: int,
    detail: int, add_to: Path | None,
) -> Recipe:  # fmt: skip
    """What is trained, names and types checked."""
    head = parse_spec(kind, HEADS, "head")
    return Recipe(
        head.name, dict(head.parameters), numbers("blocks", blocks, int, "-3,-2,-1"),
        numbers("more-scales", more_scales, float, "0.667,1.5"), detail=detail, validation=validation, views=views,
        augment=augment, paste=paste, scheme=scheme, add_to=None if add_to is None else str(add_to),
    )  # fmt: skip


def _given(
    steps: int, lr: float, seed: int, weighting: str, threshold: float | None, train_set: list[str] | None
) -> dict[str, Any]:
    """Training options by name, checked; without "threshold" where none was named: that hangs on the masks."""
    named: dict[str, Any] = {"steps": steps, "lr": lr, "seed": seed, "weighting": weighting}
    named |= {} if threshold is None else {"threshold": threshold}
    given = named | read_pairs(train_set, "--train", "lr=1e-3")
    TrainConfig.of(**given)
    return given


def _open(
    model: str, device: str, dtype: str, offline: bool, batch_size: int, settings: list[str] | None
) -> tuple[Alone, Segmenter]:
    """The processes and the model, each process on its own device."""
    from clipseg_ws.config import parse_settings
    from clipseg_ws.heads.workers import find_workers
    from clipseg_ws.segmenter import Segmenter

    workers = find_workers(device)
    config = {"batch_size": batch_size} | parse_settings(settings)
    place = str(workers.device) if workers.world > 1 else device
    segmenter = Segmenter(model, device=place, dtype=dtype, offline=offline, **config)
    return workers if workers.world > 1 else find_workers(segmenter.backbone.device), segmenter


def _masks(
    segmenter: Segmenter, workers: Alone, places: list[str], images: list[str] | None, from_tags: str | None,
    classes: str | None, background: str | None, work: Path,
) -> tuple[list[Source], MaskFolder]:  # fmt: skip
    """Pictures and their masks, which are made first where there are tags only."""
    from clipseg_ws.pictures.sources import list_sources
    from clipseg_ws.run.training.masks import open_masks

    if from_tags is not None:
        pictures, folder = list_sources(places), work / "pseudo"
        _make_masks(segmenter, pictures, from_tags, classes, background, folder, workers)
    else:
        pictures, folder = list_sources(images or []), Path(places[0])
    return pictures, open_masks(folder)


def _fit(
    segmenter: Segmenter, workers: Alone, pictures: list[Source], masks: MaskFolder, unlabelled: list[str],
    recipe: Recipe, given: dict[str, Any], output: Path, work: Path, tokens: Path | None,
) -> None:  # fmt: skip
    """Train, save and say how good it is."""
    from clipseg_ws.pictures.sources import list_sources
    from clipseg_ws.run.training.recipe import train_head

    say, config = _voice(workers), TrainConfig.of(**{"threshold": masks.threshold} | given)
    head = train_head(
        segmenter, pictures, masks, output, recipe=recipe, training=config, work=work, tokens=tokens,
        unlabelled=list_sources(unlabelled) if unlabelled else (), workers=workers, say=say,
    )  # fmt: skip
    score = "" if head.best_miou_ is None else f", mIoU {100 * head.best_miou_:.1f} against the held-back masks"
    say(f"{head.n_iter_} steps{score}; head in {output}, logs in {work}")


def _voice(workers: Alone) -> Callable[[str], None]:
    """What the first process prints, the others do not."""
    return typer.echo if workers.main else lambda text: None


def numbers(name: str, text: str, kind: Callable[[str], Any], example: str) -> tuple[Any, ...]:
    """ "-3,-2,-1" -> (-3, -2, -1); "" -> ()."""
    try:
        return tuple(kind(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise ValueError(f"{name} {text!r}; write numbers with commas, for example {example}") from error


def _make_masks(
    segmenter: Segmenter, pictures: list[Source], tags: str, classes: str | None, background: str | None,
    folder: Path, workers: Alone,
) -> None:  # fmt: skip
    """Masks by the weak setting with all pixels kept, made by the first process while the others wait."""
    from clipseg_ws.run.pseudo import make_pseudo
    from clipseg_ws.text.vocabulary import parse_classes
    from clipseg_ws.weak.label_files import read_label_files

    if workers.main:
        wanted = None if classes is None else parse_classes(classes)
        labels = read_label_files(tags, (), pictures, wanted)
        for line in labels.report:
            typer.echo(line, err=True)
        question = segmenter.ask(labels.names() or None if wanted is None else wanted, background)
        for line in make_pseudo(segmenter, pictures, folder, labels.labels, question, confidence=0.0).lines():
            typer.echo(line)
    workers.wait()
