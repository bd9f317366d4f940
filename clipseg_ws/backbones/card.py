"""What a model says of itself besides its weights: the part "clipseg_ws" of open_clip's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

EXAMPLE = '"clipseg_ws": {"recommended": {"short_side": 336}, "known_classes": ["cat", "dog"]}'


@dataclass(frozen=True)
class ModelCard:
    """What belongs to weights and is no weight. A model without anything of it speaks open vocabulary.

    Attributes:
        recommended: settings that suit these weights better than the general defaults, see ``config.settings.resolve``.
        known_classes: names of all that the weights know; () where they know no list.
        known_words: these names (always among them), their synonyms and more general words.
        kinds: general word -> names of what may be called so, which the weights know better than the word.
        default_classes: what is looked for where nobody names classes; () stands for ``known_classes``.
        file: where it was read, for messages.

    Example:
        >>> ModelCard(recommended={"alpha": 2.0}, known_classes=("house", "tree"))
    """

    recommended: Mapping[str, Any] = field(default_factory=dict)
    known_classes: tuple[str, ...] = ()
    known_words: tuple[str, ...] = ()
    default_classes: tuple[str, ...] = ()
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    file: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "recommended", dict(self.recommended))
        for key in ("known_classes", "known_words", "default_classes"):
            object.__setattr__(self, key, tuple(getattr(self, key)))
        object.__setattr__(self, "kinds", {word: tuple(names) for word, names in self.kinds.items()})
        words = dict.fromkeys((*self.known_classes, *self.known_words))
        object.__setattr__(self, "known_words", tuple(words))


def read_card(content: Any, file: str) -> ModelCard:
    """The card in a configuration that was read from JSON.

    Args:
        content: what stands under "clipseg_ws", None where nothing does. file: the configuration's, for messages.

    Raises:
        ValueError: another key than ``ModelCard`` has, or a value of another kind; names the file.
    """
    if content is None:
        return ModelCard(file=file)
    known = [f.name for f in fields(ModelCard) if f.name != "file"]
    if not isinstance(content, Mapping):
        raise ValueError(f"{file}: clipseg_ws is {_kind(content)}; an object is needed, for example {EXAMPLE}")
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ValueError(f"{file}: clipseg_ws has the key {unknown[0]!r}; allowed are {', '.join(known)}")
    for key, value in content.items():
        if key == "recommended":
            if not isinstance(value, Mapping):
                raise ValueError(f"{file}: {key} is {_kind(value)}; an object is needed, for example {EXAMPLE}")
        elif key == "kinds":
            if not isinstance(value, Mapping) or not all(map(_is_names, value.values())):
                raise ValueError(
                    f'{file}: kinds is {_kind(value)}; lists of names by word are needed, e.g. {{"pet": ["cat"]}}'
                )
        elif not _is_names(value):
            raise ValueError(f'{file}: {key} is {_kind(value)}; a list of names is needed, for example ["cat", "dog"]')
    return ModelCard(**content, file=file)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) and word.strip() for word in value)


def _kind(value: Any) -> str:
    """ "a list ['cat', 1]", cut short."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number"}
    text = str(value)
    return f"{names.get(type(value), type(value).__name__)} ({text if len(text) < 60 else text[:57] + '...'})"
