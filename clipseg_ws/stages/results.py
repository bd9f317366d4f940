"""A picture's decision as the ``Segmentation`` that the caller gets, with the record of how it was made."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from PIL import Image

from clipseg_ws import __version__
from clipseg_ws.config import Config
from clipseg_ws.output.segmentation import Segmentation
from clipseg_ws.stages.decisions import Decision
from clipseg_ws.stages.examples import Examples
from clipseg_ws.structures import Vocabulary


def make_result(
    picture: Image.Image,
    answer: Decision,
    vocabulary: Vocabulary,
    setting: str,
    record: dict[str, Any],
    config: Config,
    examples: Examples | None = None,
) -> Segmentation:
    """Tensors of a decision -> arrays, names and scores. ``record`` of ``resolved_record``."""
    names = vocabulary.names
    dtype = np.uint8 if len(names) < 255 else np.int32
    decides = config.decision == "maps" and (setting != "zero" or config.presence)
    return Segmentation(
        labels=answer.labels.cpu().numpy().astype(dtype),
        names=names,
        scores=dict(zip(names, answer.scores.tolist(), strict=True)),
        confidence=answer.confidence.float().cpu().numpy(),
        setting=setting,
        config=record,
        image=picture,
        extras=_extras(answer, config, examples),
        present=tuple(names[i] for i in answer.classes) if decides else None,
    )


def resolved_record(
    config: Config, backbone: Any, features: Any, vocabulary: Vocabulary, examples: Examples | None = None
) -> dict[str, Any]:
    """The resolved configuration that is saved with a result, JSON-able."""
    return config.as_dict() | {
        "model": backbone.name,
        "weights_sha256": backbone.weights_sha256,
        "logit_scale": config.logit_scale or backbone.logit_scale,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "features": None if features is None else features.name,
        "features_sha256": None if features is None else features.weights_sha256,
        "vocabulary": asdict(vocabulary),
        "supports": None if examples is None else examples.matcher.source.shots(),
        "clipseg_ws": __version__,
    }


def _extras(answer: Decision, config: Config, examples: Examples | None) -> dict[str, Any]:
    """Maps, instances and the alignment of the supports, where they were asked for."""
    extras: dict[str, Any] = {"maps": answer.maps().cpu().numpy()} if config.keep_maps else {}
    if answer.instances is not None:
        extras["instances"] = answer.instances
    if examples is not None and answer.support_iou is not None:
        extras["supports"] = list(zip(examples.matcher.supports, answer.support_iou.tolist(), strict=True))
    return extras
