"""A trained head as one safetensors file: weights, and in its metadata all that is needed to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.door import InputError, limit, reading, regular
from clipseg_ws.door.documents import parse_json
from clipseg_ws.files import atomic_write
from clipseg_ws.heads.base import Head, make_head
from clipseg_ws.heads.features import FeatureSpec

FORMAT = "clipseg_ws head 1"
_TRAIN = "make one with `clipseg-ws train`"


@dataclass(frozen=True)
class HeadCard:
    """What belongs to a head's weights.

    Attributes:
        classes: C names; label i + 1 is ``classes[i]``. backbone: the model's name. weights_sha256: of its weights.
        features: which tokens, of pictures of which size. kind, options: of ``make_head``. width: token width D.
        training: settings and scores of the training, for the record.
    """

    classes: tuple[str, ...]
    backbone: str
    weights_sha256: str
    features: FeatureSpec
    kind: str
    width: int
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """``Config`` keys that the tokens depend on."""
        spec = self.features
        return {
            "short_side": spec.short_side, "long_side": spec.long_side, "max_patches": spec.max_patches,
            "position_interpolation": spec.position_interpolation,
        }  # fmt: skip

    def check(self, backbone: Backbone) -> None:
        """Raise ValueError unless the head was trained on this backbone's tokens."""
        if backbone.weights_sha256 != self.weights_sha256:
            raise ValueError(
                f"this head was trained on {self.backbone!r} with weights {self.weights_sha256[:12]}..., the model is "
                f"{backbone.name!r} with weights {backbone.weights_sha256[:12]}...; use --model {self.backbone}"
            )


def save_head(path: str | Path, module: Head, card: HeadCard) -> None:
    """Write the file through a temporary name. Raises ValueError where classes and weights do not fit."""
    if module.labels != len(card.classes) + 1:
        raise ValueError(
            f"wrong number of classes: the head answers {module.labels} labels, {len(card.classes)} classes need "
            f"{len(card.classes) + 1}"
        )
    metadata = {
        "format": FORMAT, "classes": list(card.classes), "backbone": card.backbone,
        "weights_sha256": card.weights_sha256, "features": card.features.as_dict(), "kind": card.kind,
        "width": card.width, "options": dict(card.options), "training": dict(card.training),
    }  # fmt: skip
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    with atomic_write(path) as temporary:
        save_file(state, temporary, metadata=texts)


def load_head(path: str | Path) -> tuple[Head, HeadCard]:
    """The head in evaluation mode on the CPU, and its card.

    Raises:
        FileNotFoundError. ValueError: no safetensors file, none of a head, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no head at {str(path)!r}; a file of `clipseg-ws train -o head.safetensors` is needed")
    with reading(path, "a safetensors file of a head", advice=_TRAIN):
        regular(path)
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            shapes = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    if texts.get("format") != FORMAT:
        raise ValueError(
            f"{str(path)!r} is no head: its format is {texts.get('format')!r}, {FORMAT!r} is read; make one with "
            "`clipseg-ws train`"
        )
    with reading(path, "the file of a head", advice=_TRAIN):
        card = _card(texts)
        module = _built(card, shapes)
        module.load_state_dict(load_file(path))
    return module.requires_grad_(False).eval(), card


def _card(texts: Mapping[str, str]) -> HeadCard:
    plain = ("format", "backbone", "weights_sha256", "kind")
    values: dict[str, Any] = {
        key: value if key in plain else parse_json(value) for key, value in texts.items() if key != "format"
    }
    spec = FeatureSpec.from_dict(values.pop("features"))
    card = HeadCard(**values | {"classes": tuple(values["classes"]), "features": spec})
    sizes = {"classes": len(card.classes), "width": card.width, "blocks": spec.count}
    sizes |= {key: value for key, value in card.options.items() if isinstance(value, int)}
    for key, size in sizes.items():
        if not isinstance(size, int) or not 0 <= size <= limit("width"):
            raise InputError(f"its {key} is {size!r}; at most {limit('width')} are taken")
    if not all(isinstance(name, str) for name in card.classes):
        raise InputError("its classes are no names")
    return card


def _built(card: HeadCard, shapes: Mapping[str, list[int]]) -> Head:
    """The module, built without memory first: where its weights have other shapes than the file's it is not built."""
    if isinstance(depth := card.options.get("depth", 1), int) and depth > limit("layers"):
        raise InputError(f"its depth is {depth}; at most {limit('layers')} layers are taken")
    parts = (card.kind, card.features.count, card.width, len(card.classes) + 1)
    with torch.device("meta"):
        wanted = {key: list(value.shape) for key, value in make_head(*parts, **card.options).state_dict().items()}
    if wanted != shapes:
        odd = sorted(key for key in {*wanted, *shapes} if wanted.get(key) != shapes.get(key))
        raise InputError(f"its weights do not fit its card, {odd[0]!r} for example")
    return make_head(*parts, **card.options)
