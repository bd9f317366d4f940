"""A picture's decision as the ``Segmentation`` that the caller gets, with the record of how it was made."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from clipseg_ws import __version__
from clipseg_ws.config import Config
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.pictures.picture import Picture
from clipseg_ws.regions.votes import answers_of
from clipseg_ws.stages.by_head import TrainedHead
from clipseg_ws.stages.decide import Decision
from clipseg_ws.stages.question import Examples, Question


def make_result(
    picture: Picture, answer: Decision, question: Question, setting: str, record: dict[str, Any], config: Config,
    name: str | None = None,
) -> Segmentation:  # fmt: skip
    """A decision -> names and scores. ``record`` of ``resolved_record``, ``name`` of the result's files."""
    names = question.vocabulary.names
    decides = config.decision == "maps" and (setting != "zero" or config.presence)
    return Segmentation(
        labels=answer.labels,
        names=names,
        scores=dict(zip(names, answer.scores.tolist(), strict=True)),
        confidence=answer.confidence,
        setting=setting,
        config=record,
        source=picture.source,
        image=picture.image,
        extras=_extras(answer, config, question.examples, picture),
        present=tuple(names[i] for i in answer.classes) if decides else None,
        name=name,
    )


def setting_of(question: Question, tagged: bool, head: bool) -> str:
    """The name of the setting: "zero", "weak", "few", "weak-few" or "head".

    ``tagged``: it was said which classes are there; marks that name none (of the background) leave it "zero".
    """
    if head:
        return "head"
    if question.examples is not None:
        return "weak-few" if question.examples.matcher.source.predicted else "few"
    return "weak" if tagged else "zero"


def resolved_record(
    config: Config, backbone: Any, features: Any, question: Question, head: TrainedHead | None = None
) -> dict[str, Any]:
    """The resolved configuration that is saved with a result, JSON-able."""
    examples = question.examples
    trained = {} if head is None else {"head": head.describe()}
    return config.as_dict() | trained | {
        "model": backbone.name,
        "weights_sha256": backbone.weights_sha256,
        "logit_scale": config.logit_scale or backbone.logit_scale,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "features": None if features is None else features.name,
        "features_sha256": None if features is None else features.weights_sha256,
        "vocabulary": asdict(question.vocabulary),
        "unknown_names": dict(question.unknown),
        "supports": None if examples is None else examples.matcher.source.shots(),
        "clipseg_ws": __version__,
    }


def _extras(answer: Decision, config: Config, examples: Examples | None, picture: Picture) -> dict[str, Any]:
    """Maps, instances, answers of regions and the alignment of the supports, where they were asked for."""
    extras: dict[str, Any] = {"maps": answer.maps()} if config.keep_maps else {}
    if answer.instances is not None:
        extras["instances"] = answer.instances
    if picture.regions is not None:
        extras["regions"] = answers_of(picture.regions, answer.labels, answer.confidence)
    if examples is not None and answer.support_iou is not None:
        extras["supports"] = list(zip(examples.matcher.supports, answer.support_iou.tolist(), strict=True))
    return extras
