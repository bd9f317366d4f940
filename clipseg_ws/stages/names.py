"""What a caller names, as a resolved vocabulary: classes, background words, templates."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from clipseg_ws.backbones.card import ModelCard
from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.config import Config
from clipseg_ws.structures import Vocabulary, word_key
from clipseg_ws.text.background import choose_background
from clipseg_ws.text.known_names import UnknownNameWarning, describe_unknown, unknown_names
from clipseg_ws.text.lists import load_background
from clipseg_ws.text.matching import label_words, same_classes
from clipseg_ws.text.vocabulary import parse_classes

DEFAULT_BACKGROUND = "voc-clip-es"


def resolve_names(
    backbone: Backbone,
    config: Config,
    classes: Any = None,
    background: Any = None,
    tags: Iterable[Sequence[str]] | None = None,
) -> Vocabulary:
    """Classes, background words (those that are classes left out; "auto": chosen by similarity), templates.

    Without ``classes``: all that the model knows (nano), unless its card has default classes (photo); these where no
    ``tags`` name any, else those that the tags name.

    Raises:
        ValueError: neither classes nor tags, or a class file that cannot be read.
    """
    if isinstance(classes, Vocabulary) and classes.background is not None and background is None:
        return parse_classes(classes, templates=config.templates, fusion=config.fusion)  # its words were said
    if classes is None:
        classes = _default_classes(backbone, tags)
    said = config.background if background is None else background
    if said == "auto":
        vocabulary = parse_classes(classes, background=(), templates=config.templates, fusion=config.fusion)
        return choose_background(vocabulary, backbone.embed_text, backbone.weights_sha256)
    if background is not None:
        return parse_classes(classes, background=background, templates=config.templates, fusion=config.fusion)
    vocabulary = parse_classes(classes, templates=config.templates, fusion=config.fusion)
    if said is None and vocabulary.background is None:
        said = DEFAULT_BACKGROUND
    if said is None:
        return vocabulary
    taken = vocabulary.index()
    return replace(vocabulary, background=tuple(w for w in load_background(said) if word_key(w) not in taken))


def _default_classes(backbone: Backbone, tags: Iterable[Sequence[str]] | None) -> list[str]:
    card = backbone.card
    if card.known_classes and not card.default_classes:
        return list(card.known_classes)
    groups = same_classes(sorted({tag for image in tags or () for tag in image}))
    named = [", ".join(label_words(", ".join(group))) for group in groups]  # spellings and synonyms of one class
    if not named and card.default_classes:
        return list(card.default_classes)
    if not named:
        raise ValueError(
            "no classes were given; pass classes='cat; person, people' or a class file, or tags=['cat'] for "
            "pictures whose classes are known"
        )
    return named


def warn_unknown(vocabulary: Vocabulary, card: ModelCard, model: str, *, stacklevel: int) -> dict[str, str | None]:
    """Classes that a model does not know -> the nearest word that it knows, or None; warns where there are any.

    Args:
        model: its name, for the text. stacklevel: as for ``warnings.warn``.
    """
    unknown = unknown_names(vocabulary, card.known_words)
    if unknown:
        text = describe_unknown(unknown, model, len(card.known_classes))
        warnings.warn(text, UnknownNameWarning, stacklevel=stacklevel)
    return unknown
