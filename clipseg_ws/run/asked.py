"""What is asked of every picture of a run, as content that can be compared: the whole question, a picture's labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from clipseg_ws import __version__
from clipseg_ws.config import SETTINGS
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.stages.question import Question
from clipseg_ws.structures import WeakLabels

SPEED = ("batch_size", "cache_mb", "compile", "keep_maps")  # settings that change no answer


def content_of(segmenter: Segmenter, question: Question | None, about: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides the answers of a run, JSON-able: settings, weights, words, supports, and ``about``.

    Device and number format are left out: they change roundings only, and parts of one folder may be made on several
    machines. ``question`` None: it differs from picture to picture, ``about`` says by what rule.
    """
    backbone, features, head = segmenter.backbone, segmenter.features, segmenter.head
    content: dict[str, Any] = _settings(segmenter) | {
        "weights": backbone.weights_sha256,
        "features": None if features is None else features.weights_sha256,
        "head": None if head is None else head.sha256,
        "version": __version__,
    }
    if question is not None:
        words, examples = question.vocabulary, question.examples
        content |= {
            "classes": words.names,
            "synonyms": words.synonyms,
            "background words": words.background,
            "templates": (words.templates, words.fusion, words.prompts),
            "names or examples": question.kind,
            "supports": None if examples is None else examples.matcher.source.digest(),
        }
    return content | dict(about)


def _settings(segmenter: Segmenter) -> dict[str, Any]:
    """The settings that decide answers; a key's values by setting where the model recommends different ones."""
    configs: dict[str, dict[str, Any]] = {}
    for setting in SETTINGS:
        with suppress(ValueError):  # not possible with these settings
            configs[setting] = segmenter.config_of(setting).as_dict()
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for config in configs.values() for key in config if key not in SPEED):
        values = {setting: config.get(key) for setting, config in configs.items()}
        first, *others = values.values()
        found[key] = values if any(other != first for other in others) else first
    return found


def labels_digest(labels: WeakLabels | None) -> str:
    """16 digits that change with what is said of a picture, not with the order of tags and boxes; "" for nothing."""
    if labels is None:
        return ""
    tags = None if labels.tags is None else sorted(labels.tags)
    digest = hashlib.sha256(repr((tags, sorted(labels.boxes), labels.points)).encode())
    if labels.scribbles is not None:
        digest.update(repr(labels.scribbles.shape).encode() + labels.scribbles.tobytes())
    return digest.hexdigest()[:16]
