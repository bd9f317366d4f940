"""A bank of examples: supports encoded once by a frozen backbone, kept in memory or as one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from clipseg_ws.activations import layers_needed
from clipseg_ws.activations.featuremaps import feature_maps
from clipseg_ws.activations.prototypes import pooling_weights
from clipseg_ws.fewshot.supports import UNNAMED, SupportError, read_supports
from clipseg_ws.files import atomic_write
from clipseg_ws.pictures.images import to_pixels
from clipseg_ws.pictures.loading import grouped
from clipseg_ws.pictures.sizes import target_size
from clipseg_ws.structures import Support, Tokens

FORMAT = "clipseg_ws support bank 1"


class BankError(ValueError):
    """A bank that does not fit the weights, the question or its own file."""


@dataclass(frozen=True, eq=False)
class BankEntry:
    """One encoded support.

    Attributes:
        label: its class. name: the file it came from, for reports; empty for arrays.
        features: kind -> [D, h, w], as the backbone gave them.
        foreground, background: [h, w] float32 in [0, 1], share of each cell that the mask calls object or background
            (``prototypes.pooling_weights`` over the cell's area); ignored pixels are in neither.
        predicted: the mask was not given but predicted from the label (weak-few).
    """

    label: str
    name: str
    features: Mapping[str, Tensor]
    foreground: Tensor
    background: Tensor
    predicted: bool = False


@dataclass(frozen=True, eq=False)
class SupportBank:
    """Encoded supports and what encoded them.

    Attributes:
        entries: at least one. kinds: of the features that every entry has (``activations/featuremaps.py``).
        model, position_interpolation, weights_sha256: of the backbone.
        asked: the classes to look for, others only compete (``focus``); empty: all.
    """

    entries: tuple[BankEntry, ...]
    kinds: tuple[str, ...]
    model: str
    position_interpolation: str
    weights_sha256: str
    asked: tuple[str, ...] = ()

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

    def select(self, labels: Sequence[str]) -> SupportBank:
        """The bank of these classes only, in this order. Raises BankError for one that is not in it."""
        self._require(labels)
        chosen = tuple(e for label in dict.fromkeys(labels) for e in self.entries if e.label == label)
        return replace(self, entries=chosen, asked=())

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
            BankError: other weights or kinds of features.
        """
        for key in ("weights_sha256", "position_interpolation", "kinds"):
            mine, its = getattr(self, key), getattr(other, key)
            if mine != its:
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
            "entries": [{"label": e.label, "name": e.name, "predicted": e.predicted} for e in self.entries],
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
    if not path.is_file():
        raise FileNotFoundError(f"no support bank at {str(path)!r}")
    device = device if backbone is None else backbone.device
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            about = json.loads((file.metadata() or {}).get("clipseg_ws", "{}"))
            if about.get("format") != FORMAT:
                raise BankError(f"{str(path)!r} is no support bank of this version (format {about.get('format')!r})")
            kinds = tuple(about["kinds"])
            entries = tuple(_read_entry(file, i, entry, kinds) for i, entry in enumerate(about["entries"]))
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise BankError(f"{str(path)!r} is damaged or no support bank: {error}") from error
    bank = SupportBank(entries, kinds, about["model"], about["position_interpolation"], about["weights_sha256"])
    if backbone is not None:
        bank.check(backbone)
    return bank


def encode_bank(
    backbone: Any,
    supports: Iterable[Support | Sequence[Any]] | Support,
    *,
    kinds: Sequence[str],
    short_side: int | None = None,
    long_side: int | None = None,
    max_patches: int | None = 2304,
    batch_size: int = 8,
    confidence: Mapping[int, np.ndarray] | None = None,
    encode: Callable[[Sequence[Any]], Tokens] | None = None,
) -> SupportBank:
    """Encode supports with their masks; a support without a label is called "object".

    Args:
        backbone: ``Backbone`` or ``FeatureBackbone``. supports: see ``supports.read_support``.
        kinds: features to keep, see ``activations/featuremaps.py``.
        short_side, long_side, max_patches: picture size, as for queries. batch_size: pictures that go together.
        confidence: place of a support -> [H, W] in [0, 1], for masks that were predicted (weak-few): its pixels count
            that much.
        encode: makes the tokens of pictures of one size in place of the backbone, for example from a cache.

    Raises:
        SupportError: a picture or mask that cannot be used, or a support without a mask. ValueError: unknown kinds.
    """
    given: list[Any] = [supports] if isinstance(supports, Support) else list(supports)
    read = read_supports(given)
    for support, original in zip(read, given, strict=True):
        if support.mask is None:
            raise SupportError(
                f"support {support_name(original)!r} has no mask; one is needed, e.g. Support('a.jpg', 'a.png', 'cat')"
            )
    p = backbone.patch_size

    def pixels(picture: Any) -> Tensor:
        return to_pixels(
            picture, patch_size=p, mean=backbone.mean, std=backbone.std, short_side=short_side, long_side=long_side,
            max_patches=max_patches,
        )  # fmt: skip

    shapes = (support.image.size for support in read)
    sizes = [target_size(width, height, p, short_side, long_side, max_patches) for width, height in shapes]
    entries: dict[int, BankEntry] = {}
    for batch in grouped(sizes, batch_size):
        if encode is not None:
            tokens = encode([read[i].image for i in batch])
        else:
            stacked = torch.stack([pixels(read[i].image) for i in batch])
            tokens = backbone.encode(stacked, attention_blocks=0, keep_layers=layers_needed(kinds))
        features = feature_maps(backbone, tokens, kinds)
        for row, i in enumerate(batch):
            mine = {kind: value[row].clone() for kind, value in features.items()}
            entries[i] = _entry(read[i], support_name(given[i]), mine, (confidence or {}).get(i))
    return SupportBank(
        tuple(entries[i] for i in range(len(read))), tuple(kinds), backbone.name, backbone.position_interpolation,
        backbone.weights_sha256,
    )  # fmt: skip


def _entry(support: Support, name: str, features: Mapping[str, Tensor], confidence: np.ndarray | None) -> BankEntry:
    first = next(iter(features.values()))
    grid = (int(first.shape[1]), int(first.shape[2]))
    mask = torch.from_numpy(support.mask).to(first.device)[None]  # [1, H, W]
    area = mask[0].numel() / (grid[0] * grid[1])  # pixels of a cell
    weight = 1.0 if confidence is None else torch.from_numpy(np.asarray(confidence, np.float32)).to(first.device)[None]
    foreground, background = (pooling_weights((mask == value) * weight, grid)[0] / area for value in (1, 0))
    return BankEntry(support.label or UNNAMED, name, features, foreground, background, confidence is not None)


def support_name(support: Support | Sequence[Any]) -> str:
    """The file or URL that a support's picture comes from; empty for arrays and pictures in memory."""
    image = support.image if isinstance(support, Support) else support[0]
    return str(image) if isinstance(image, (str, Path)) else ""


def _moved(entry: BankEntry, device: torch.device | str) -> BankEntry:
    features = {kind: value.to(device) for kind, value in entry.features.items()}
    return replace(
        entry, features=features, foreground=entry.foreground.to(device), background=entry.background.to(device)
    )


def _read_entry(file: Any, index: int, about: Mapping[str, Any], kinds: Sequence[str]) -> BankEntry:
    features = {kind: file.get_tensor(f"{index}.feature.{kind}") for kind in kinds}
    foreground, background = (file.get_tensor(f"{index}.{key}") for key in ("foreground", "background"))
    return BankEntry(about["label"], about["name"], features, foreground, background, about["predicted"])


def _short(value: Any) -> str:
    return f"{value[:12]}…" if isinstance(value, str) and len(value) == 64 else str(value)
