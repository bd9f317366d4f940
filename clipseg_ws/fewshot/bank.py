"""A bank of examples: encoded supports, kept in memory or as one safetensors file; ``encoding.py`` makes one."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from clipseg_ws.door.documents import parse_json
from clipseg_ws.door.errors import InputError, reading
from clipseg_ws.door.plain import regular
from clipseg_ws.files import atomic_write

FORMAT = "clipseg_ws support bank 1"


class BankError(InputError):
    """A bank that does not fit the weights, the question or its own file."""


class BankWarning(UserWarning):
    """A bank that can be used, but was made for other settings."""


@dataclass(frozen=True, eq=False)
class BankEntry:
    """One encoded support.

    Attributes:
        label: its class. name: the file it came from, for reports; empty for arrays.
        features: kind -> [D, h, w], as the backbone gave them.
        foreground, background: [h, w] float32 in [0, 1], share of each cell that the mask calls object or background
            (``prototypes.pooling_weights`` over the cell's area); ignored pixels are in neither.
        predicted: the mask was not given but predicted from the label (weak-few).
        content: digest of picture and mask; "" where it is not known.
    """

    label: str
    name: str
    features: Mapping[str, Tensor]
    foreground: Tensor
    background: Tensor
    predicted: bool = False
    content: str = ""


@dataclass(frozen=True, eq=False)
class SupportBank:
    """Encoded supports and what encoded them.

    Attributes:
        entries: at least one. kinds: of the features that every entry has (``activations/featuremaps.py``).
        model, position_interpolation, weights_sha256: of the backbone.
        asked: the classes to look for, others only compete (``focus``); empty: all.
        sizes: the settings that decided the pictures' size at the encoding; empty where they are not known.
    """

    entries: tuple[BankEntry, ...]
    kinds: tuple[str, ...]
    model: str
    position_interpolation: str
    weights_sha256: str
    asked: tuple[str, ...] = ()
    sizes: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order in which they first occur."""
        return tuple(dict.fromkeys(entry.label for entry in self.entries))

    @property
    def predicted(self) -> bool:
        """Whether some masks were predicted from labels (weak-few)."""
        return any(entry.predicted for entry in self.entries)

    def shots(self) -> dict[str, int]:
        """Class -> number of its supports."""
        return {label: sum(e.label == label for e in self.entries) for label in self.labels}

    def digest(self) -> str:
        """16 digits that change with what the bank holds and was asked with: pictures, masks, labels, weights, sizes.

        Not with the last bits of features that were encoded again from the same pictures.
        """
        about = [self.kinds, self.position_interpolation, self.weights_sha256, self.asked, sorted(self.sizes.items())]
        digest = hashlib.sha256(repr(about).encode())
        for entry in self.entries:
            digest.update(repr((entry.label, entry.predicted, entry.content)).encode())
            if not entry.content:
                for tensor in (*(entry.features[kind] for kind in self.kinds), entry.foreground, entry.background):
                    digest.update(tensor.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def select(self, labels: Sequence[str]) -> SupportBank:
        """The bank of these classes only, in this order. Raises BankError for one that is not in it."""
        self._require(labels)
        chosen = tuple(e for label in dict.fromkeys(labels) for e in self.entries if e.label == label)
        return replace(self, entries=chosen, asked=())

    def renamed(self, labels: Mapping[str, str]) -> SupportBank:
        """The same with other labels (old -> new); itself where nothing changes."""
        if all(labels.get(label, label) == label for label in self.labels):
            return self
        entries = tuple(replace(entry, label=labels.get(entry.label, entry.label)) for entry in self.entries)
        asked = tuple(dict.fromkeys(labels.get(label, label) for label in self.asked))
        return replace(self, entries=entries, asked=asked)

    def focus(self, labels: Sequence[str]) -> SupportBank:
        """The same bank, asked for these classes; the others compete and what they win is background (BAM).

        Raises:
            BankError: a class that is not in it.
        """
        self._require(labels)
        return replace(self, asked=tuple(dict.fromkeys(labels)))

    def _require(self, labels: Sequence[str]) -> None:
        missing = [label for label in labels if label not in self.labels]
        if missing or not labels:
            raise BankError(
                f"no supports for {', '.join(map(repr, missing)) or 'an empty list of classes'}; the bank holds "
                f"{', '.join(f'{k} ({n})' for k, n in self.shots().items())}"
            )

    def merge(self, other: SupportBank) -> SupportBank:
        """Both banks' entries; one of the same file and label replaces the older.

        Raises:
            BankError: other weights, kinds of features or picture sizes.
        """
        for key in ("weights_sha256", "position_interpolation", "kinds", "sizes"):
            mine, its = getattr(self, key), getattr(other, key)
            if mine != its and (key != "sizes" or (mine and its)):
                raise BankError(f"banks of different {key} cannot be joined: {_short(mine)} and {_short(its)}")
        newer = {(entry.name, entry.label) for entry in other.entries if entry.name}
        kept = tuple(entry for entry in self.entries if (entry.name, entry.label) not in newer)
        return replace(self, entries=kept + other.entries)

    def check(self, backbone: Any, kinds: Sequence[str] = ()) -> None:
        """Raise BankError unless ``backbone`` made this bank and it has the asked kinds of features."""
        if self.weights_sha256 != backbone.weights_sha256:
            raise BankError(
                f"this bank was made with other weights: {self.model} ({_short(self.weights_sha256)}), the model now "
                f"is {backbone.name} ({_short(backbone.weights_sha256)}); encode the supports again, or load that model"
            )
        if self.position_interpolation != backbone.position_interpolation:
            raise BankError(
                f"this bank was made with position_interpolation={self.position_interpolation!r}, now it is "
                f"{backbone.position_interpolation!r}; set the former, or encode the supports again"
            )
        missing = [kind for kind in kinds if kind not in self.kinds]
        if missing:
            raise BankError(
                f"this bank has the features {', '.join(self.kinds)}, not {', '.join(missing)}; encode it again"
            )

    def to(self, device: torch.device | str) -> SupportBank:
        """The same bank on another device; itself where it is there already."""
        device = torch.device(device)
        if all(entry.foreground.device == device for entry in self.entries):
            return self
        return replace(self, entries=tuple(_moved(entry, device) for entry in self.entries))

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file through a temporary name; returns its path."""
        tensors: dict[str, Tensor] = {}
        for i, entry in enumerate(self.entries):
            named = {f"feature.{kind}": entry.features[kind] for kind in self.kinds}
            named |= {"foreground": entry.foreground, "background": entry.background}
            tensors |= {f"{i}.{key}": value.detach().cpu().contiguous().clone() for key, value in named.items()}
        about = {
            "format": FORMAT,
            "model": self.model,
            "position_interpolation": self.position_interpolation,
            "weights_sha256": self.weights_sha256,
            "kinds": list(self.kinds),
            "asked": list(self.asked),
            "sizes": dict(self.sizes),
            "entries": [
                {"label": e.label, "name": e.name, "predicted": e.predicted, "content": e.content}
                for e in self.entries
            ],
        }
        with atomic_write(path) as temporary:
            save_file(tensors, temporary, metadata={"clipseg_ws": json.dumps(about)})
        return Path(path)


def load_bank(path: str | Path, backbone: Any = None, device: torch.device | str = "cpu") -> SupportBank:
    """Read a saved bank.

    Args:
        backbone: where given the bank is checked against it and put on its device.

    Raises:
        FileNotFoundError: no such file. BankError: a damaged file, one that is no bank, or one of other weights.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"no support bank at {str(path)!r}")
    device = device if backbone is None else backbone.device
    advice = "delete it, then the examples are encoded again"
    with reading(path, "a support bank", advice=advice, kind=BankError):
        regular(path)
        with safe_open(path, framework="pt", device=str(device)) as file:
            about = parse_json((file.metadata() or {}).get("clipseg_ws", "{}"))
            if about.get("format") != FORMAT:
                raise BankError(f"{str(path)!r} is no support bank of this version (format {about.get('format')!r})")
            kinds = tuple(about["kinds"])
            entries = tuple(_read_entry(file, i, entry, kinds) for i, entry in enumerate(about["entries"]))
        weights, positions = about["weights_sha256"], about["position_interpolation"]
        asked, sizes = tuple(about.get("asked", ())), dict(about.get("sizes", {}))
        bank = SupportBank(entries, kinds, about["model"], positions, weights, asked, sizes)
    if backbone is not None:
        bank.check(backbone)
    return bank


def _moved(entry: BankEntry, device: torch.device | str) -> BankEntry:
    features = {kind: value.to(device) for kind, value in entry.features.items()}
    return replace(
        entry, features=features, foreground=entry.foreground.to(device), background=entry.background.to(device)
    )


def _read_entry(file: Any, index: int, about: Mapping[str, Any], kinds: Sequence[str]) -> BankEntry:
    features = {kind: file.get_tensor(f"{index}.feature.{kind}") for kind in kinds}
    foreground, background = (file.get_tensor(f"{index}.{key}") for key in ("foreground", "background"))
    rest = (about["predicted"], about.get("content", ""))
    return BankEntry(about["label"], about["name"], features, foreground, background, *rest)


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)
