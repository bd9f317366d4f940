"""A trained head as one safetensors file: weights, and in its metadata all that is needed to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from clipseg_ws.backbones.protocol import Backbone
from clipseg_ws.files import atomic_write
from clipseg_ws.heads.base import Head, make_head
from clipseg_ws.heads.features import FeatureSpec

FORMAT = "clipseg_ws head 1"


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
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is damaged or no safetensors file ({error})") from error
    if texts.get("format") != FORMAT:
        raise ValueError(
            f"{str(path)!r} is no head: its format is {texts.get('format')!r}, {FORMAT!r} is read; make one with "
            "`clipseg-ws train`"
        )
    plain = ("format", "backbone", "weights_sha256", "kind")
    values = {key: value if key in plain else json.loads(value) for key, value in texts.items() if key != "format"}
    spec = FeatureSpec.from_dict(values.pop("features"))
    card = HeadCard(**values | {"classes": tuple(values["classes"]), "features": spec})
    module = make_head(card.kind, spec.count, card.width, len(card.classes) + 1, **card.options)
    module.load_state_dict(load_file(path))
    return module.requires_grad_(False).eval(), card
