"""What is asked of every picture of a run, as content that can be compared: the whole question, a picture's labels."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from clipseg_ws import __version__
from clipseg_ws.config import SETTINGS
from clipseg_ws.structures import Vocabulary, WeakLabels

if TYPE_CHECKING:
    from clipseg_ws.segmenter import Segmenter
    from clipseg_ws.stages.question import Question

SPEED = ("batch_size", "cache_mb", "compile", "keep_maps")  # settings that change no answer


def content_of(segmenter: Segmenter, question: Question | None, about: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides the answers of a run, JSON-able: settings, weights, words, supports, and ``about``.

    Device and number format are left out: they change roundings only, and parts of one folder may be made on several
    machines. ``question`` None: it differs from picture to picture, ``about`` says by what rule.
    """
    backbone, features, head = segmenter.backbone, segmenter.features, segmenter.head
    configs: dict[str, dict[str, Any]] = {}
    for setting in SETTINGS:
        with suppress(ValueError):  # not possible with these settings
            configs[setting] = segmenter.config_of(setting).as_dict()
    content = models_content(
        configs, backbone.weights_sha256, None if features is None else features.weights_sha256,
        None if head is None else head.sha256,
    )  # fmt: skip
    if question is not None:
        examples = question.examples
        supports = None if examples is None else examples.matcher.source.digest()
        content |= words_content(question.vocabulary, question.kind, supports)
    return content | dict(about)


def models_content(
    configs: Mapping[str, Mapping[str, Any]], weights: str, features: str | None, head: str | None
) -> dict[str, Any]:
    """The settings that decide answers and the digests of all weights.

    ``configs``: setting -> its configuration; a key's values by setting where the model recommends different ones.
    """
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for config in configs.values() for key in config if key not in SPEED):
        values = {setting: config.get(key) for setting, config in configs.items()}
        first, *others = values.values()
        found[key] = values if any(other != first for other in others) else first
    return found | {"weights": weights, "features": features, "head": head, "version": __version__}


def words_content(words: Vocabulary, kind: str, supports: str | None) -> dict[str, Any]:
    """What is looked for. ``kind``: of the question. ``supports``: digest of the examples."""
    return {
        "classes": words.names,
        "synonyms": words.synonyms,
        "background words": words.background,
        "templates": (words.templates, words.fusion, words.prompts),
        "names or examples": kind,
        "supports": supports,
    }


def labels_digest(labels: WeakLabels | None) -> str:
    """16 digits that change with what is said of a picture, not with the order of tags and boxes; "" for nothing."""
    if labels is None:
        return ""
    tags = None if labels.tags is None else sorted(labels.tags)
    digest = hashlib.sha256(repr((tags, sorted(labels.boxes), labels.points)).encode())
    if labels.scribbles is not None:
        digest.update(repr(labels.scribbles.shape).encode() + labels.scribbles.tobytes())
    return digest.hexdigest()[:16]
