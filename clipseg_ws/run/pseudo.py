"""Pseudo masks for a whole data set: weak labels and pictures in, label PNG and confidence PNG out.

Below the output folder: ``masks/<picture>.png`` (palette, 255 where the confidence is too low),
``masks/<picture>_confidence.png`` (8 bits, 255 = certain), ``maps/<picture>.npz`` and ``instances/<picture>.png`` (16
bits, 0 = none) if asked, ``classes.txt``, ``settings.json``, ``errors.csv`` (``errors-2-of-8.csv`` of a shard). Other
formats of a picture lie beside its mask; those of the whole folder are made with ``pseudo_entries``.
What is complete, and answers the same question about the same picture, is never done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from clipseg_ws.door.errors import InputError
from clipseg_ws.door.state import read_record
from clipseg_ws.files import remove_unfinished, write_arrays, write_text
from clipseg_ws.output.datasets import Written, written
from clipseg_ws.output.formats import picture_formats
from clipseg_ws.output.formats.png import write_label_png
from clipseg_ws.output.palette import ignored_label
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.sources import Source
from clipseg_ws.run.asked import SPEED
from clipseg_ws.run.folder import run_folder
from clipseg_ws.run.plan import Weak
from clipseg_ws.run.shards import WHOLE, shard_of
from clipseg_ws.run.summary import Summary
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stages.question import Question
from clipseg_ws.stages.results import setting_of
from clipseg_ws.stored import is_sure
from clipseg_ws.structures import IGNORE

MASK_FORMATS = ("confidence", "png")  # in this order: the mask comes last
MIN_CONFIDENCE = 0.95  # CLIP-ES


@dataclass
class PseudoSummary:
    """What a run did: ``run`` as ``run_folder`` counts it, and over the pictures done now how many pixels there were
    and how many of them were left open (255)."""

    run: Summary = field(default_factory=Summary)
    pixels: int = 0
    ignored: int = 0

    def lines(self) -> Iterator[str]:
        """The closing lines: pictures, speed, classes with pictures and coverage, share of 255."""
        run = self.run
        yield f"{run.done} done, {run.skipped} already there, {run.failed} failed, of {run.total}"
        if not run.done:
            return
        yield f"{run.done / max(run.seconds, 1e-9):.2f} pictures a second, model loading left out"
        for name, count in run.pixels.most_common():
            yield f"  {name:<24} {run.pictures[name]:>7} pictures {count / self.pixels:>7.1%} of the pixels"
        share = self.ignored / self.pixels
        yield f"  {'(255, not certain)':<24} {'':>16} {share:>7.1%} of the pixels"
        if share > 0.5:
            yield "more than half is left open: a lower --confidence keeps more; only crf gives true probabilities"


def ignore_uncertain(seg: Segmentation, threshold: float = MIN_CONFIDENCE) -> Segmentation:
    """The same with 255 where the confidence, as it is stored, is below ``threshold``; 0 keeps all.

    Raises ValueError for a threshold outside [0, 1] or from 255 classes on, where 255 is a class.
    """
    if ignored_label(len(seg.names)) is None:
        raise ValueError(
            f"{len(seg.names)} classes leave no label for ignored pixels; at most {IGNORE - 1} are allowed"
        )
    labels = seg.labels.copy()
    labels[~is_sure(np.asarray(seg.confidence), threshold)] = IGNORE
    return replace(seg, labels=labels)


def make_pseudo(
    segmenter: Segmenter, sources: Sequence[Source], directory: str | Path, weak: Weak | None, question: Question, *,
    confidence: float = MIN_CONFIDENCE, maps: bool = False, shard: tuple[int, int] = WHOLE, overwrite: bool = False,
    workers: int = 2, engine: str = "local", formats: Sequence[str] = (), missing_confidence: float = 0.0,
    say: Callable[[str], None] = lambda text: None,
) -> PseudoSummary:  # fmt: skip
    """Write the masks of all pictures of a shard; memory does not grow with their number.

    Args:
        sources: the whole data set, also where ``shard`` takes only every n-th. weak: source -> its weak labels, a
            ValueError of it is that picture's failure (errors.csv); None where examples say what is there.
        question: of ``segmenter.ask``, the same for all shards. confidence: what is less certain becomes 255.
            Instance maps are written where ``segmenter`` has ``instances`` switched on.
        maps: write the class maps as float16 too; ``segmenter`` needs ``keep_maps``.
        shard: (i, n), i from 1: pictures i, i + n, ... engine: as for ``run_folder``.
        formats: what is written of every picture beside mask and confidence, see ``output.formats``.
        missing_confidence: what is less certain than that becomes 255 in pictures in which a class that is said to be
            there has no pixel. say: told at once what is done again.

    Raises:
        ValueError: a folder that holds masks made with other classes or settings (``overwrite`` replaces them).
    """
    directory = Path(directory)
    _claim(directory, question.vocabulary.names, _settings(segmenter, question, confidence), overwrite)
    remove_unfinished(directory)
    summary = PseudoSummary()
    number, of = shard
    summary.run = run_folder(
        segmenter, shard_of(sources, shard), directory / "masks", question, formats=mask_formats(formats),
        overwrite=overwrite, workers=workers, engine=engine, weak=weak,
        finish=partial(_finished, directory, confidence, missing_confidence, maps), also=("maps",) if maps else (),
        about={"min_confidence": confidence, "missing_confidence": missing_confidence}, say=say,
        errors_file=directory / ("errors.csv" if of == 1 else f"errors-{number}-of-{of}.csv"),
    )  # fmt: skip
    summary.pixels, summary.ignored = summary.run.size, summary.run.ignored
    return summary


def _finished(
    directory: Path, confidence: float, missing: float, maps: bool, source: Source, result: Segmentation
) -> Segmentation:
    """The result with 255 where it is not certain; maps and instances are written, those of an older answer removed."""
    map_file = directory / "maps" / f"{source.relative}.npz"
    instance_file = directory / "instances" / f"{source.relative}.png"
    if maps:
        write_maps(result, map_file)
    else:
        map_file.unlink(missing_ok=True)
    things = result.extras.get("instances")
    if missing > confidence and any(not result.mask(name).any() for name in result.present or ()):
        confidence = missing
    result = ignore_uncertain(result, confidence)
    if things is not None:
        write_instances(result.labels, things, instance_file)
    else:
        instance_file.unlink(missing_ok=True)
    return replace(result, extras={})


def write_maps(seg: Segmentation, path: Path) -> None:
    """``maps`` float16 [K, H, W] of the classes that have a map, and ``labels`` int32 [K], their labels, as .npz."""
    if "maps" not in seg.extras:
        raise ValueError("this result keeps no maps; make the Segmenter with keep_maps=True")
    maps = seg.extras["maps"]
    kept = np.flatnonzero(maps.reshape(len(maps), -1).any(1))
    arrays = {"maps": maps[kept].astype(np.float16), "labels": (kept + 1).astype(np.int32)}
    write_arrays(path, arrays, packed=True)


def write_instances(labels: np.ndarray, things: np.ndarray, path: Path) -> None:
    """The instance map as 16-bit PNG; what the labels leave open (255) belongs to none."""
    write_label_png(np.where(labels == IGNORE, 0, things), path, classes=IGNORE)


def pseudo_entries(
    sources: Sequence[Source], directory: str | Path, formats: Sequence[str] = MASK_FORMATS
) -> list[Written]:
    """The pictures whose files are complete, with instances where some were made, for ``datasets.write_datasets``.

    ``directory`` and ``formats`` as for ``make_pseudo``.
    """
    return written(sources, Path(directory) / "masks", mask_formats(formats), Path(directory) / "instances")


def mask_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Those of every picture: the confidence, what else was asked for, and the mask, which comes last."""
    extra = [text for text in picture_formats([*MASK_FORMATS, *formats]) if text not in MASK_FORMATS]
    return ("confidence", *extra, "png")


def _settings(segmenter: Segmenter, question: Question, confidence: float) -> dict[str, Any]:
    """What decides the masks."""
    backbone, examples, words = segmenter.backbone, question.examples, question.vocabulary
    made: dict[str, Any] = {"model": backbone.name, "weights_sha256": backbone.weights_sha256}
    made |= {"min_confidence": confidence, "background_words": list(words.background or ())}
    made |= {key: getattr(words, key) for key in ("synonyms", "templates", "fusion", "prompts")}
    if segmenter.head is not None:
        made["head_sha256"] = segmenter.head.sha256
    if examples is not None:
        made["supports"] = examples.matcher.source.shots()
    config = segmenter.config_of(setting_of(question, True, segmenter.head is not None))
    return config.as_dict() | made


def _claim(directory: Path, names: Sequence[str], settings: dict[str, Any], overwrite: bool) -> None:
    """Record classes and settings, or check that the folder holds masks made with the same ones."""
    answers = {k: v for k, v in settings.items() if k not in SPEED}
    text = json.dumps({"classes": list(names), "settings": answers}, indent=2, ensure_ascii=False) + "\n"
    path = directory / "settings.json"
    if path.exists() and not overwrite:
        advice = "choose another output folder, or --overwrite to make all again"
        there = read_record(path, ("settings", "classes"), advice)
        if not isinstance(there["settings"], dict):
            raise InputError("its settings are no mapping", file=path, advice=advice)
        now = json.loads(text)
        keys = {k for k in {*there["settings"], *answers} if there["settings"].get(k) != now["settings"].get(k)}
        differing = sorted(keys, key=lambda key: (key != "model", key))  # whose settings they are comes first
        if there["classes"] != now["classes"]:
            differing.insert(0, "classes")
        if differing:
            raise ValueError(
                f"{str(directory)!r} holds masks made with other {', '.join(differing)}; choose another output folder, "
                "or --overwrite to make all again"
            )
    write_text(path, text)
    write_text(directory / "classes.txt", "".join(f"{name}\n" for name in ("background", *names)))
